"""Documents cut into chunks that a model can translate, and put together as they were."""

from jobs.translation.documents.document import Chunk, Document, cut

__all__ = ["Chunk", "Document", "cut"]
