"""Sphinx's settings: Markdown as a Git host shows it, and nothing that needs a network."""

from importlib.metadata import version as _version

project = "gemma3-batch"
release = version = _version("gemma3-batch")
author = "the gemma3-batch authors"
copyright = author  # noqa: A001  Sphinx's name
extensions = ["myst_parser"]
myst_heading_anchors = 4  # links to headings, by the names that Git hosts give them
myst_links_external_new_tab = False
highlight_language = "none"  # of blocks that name no language
nitpicky = True
smartquotes = False  # what is quoted is often to be copied
html_theme = "furo"
html_title = f"gemma3-batch {release}"
html_static_path: list[str] = []
html_copy_source = False  # no `_sources`: the repository has them
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
