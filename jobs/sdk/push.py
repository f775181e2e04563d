"""`push`, where the functions of this package are imported from."""

from pipeline.output.hub.push import push

__all__ = ["push"]
