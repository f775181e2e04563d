"""Cuts a document into chunks that a model can translate, and puts the translations back.

document    the document, its chunks, and the translations joined
markup      which parts of Markdown and HTML are text
tags        which HTML tags separate texts
passages    a passage: text that is translated together, and its line breaks
chunks      cuts a passage into parts that fit a number of tokens
sentences   where a text may be cut
inline      code, URLs, tags and so on within a line
"""

from jobs.translation.documents.document import Chunk, Document, cut

__all__ = ["Chunk", "Document", "cut"]
