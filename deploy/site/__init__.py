"""The documentation as a site, without a network: `make docs`, or `python -m deploy.site.build`.

nav     which pages there are, in which order, and from which files
stage   lays the pages into one folder, with links that lead from page to page
conf    Sphinx's settings
build   does both, and fails on anything that is not right

Pages are plain Markdown, as a Git host shows it too. Some lie beside the code that they describe
(`pipeline/output/README.md`): the site shows that file, so there is no second copy to keep.

Sphinx, MyST and furo: maintained, released as 1.0 long ago, and what they build loads nothing from
elsewhere, the search included. Of the others looked at (2026-11), mkdocs-material says of itself
that it is inactive and ends in May 2027; its successor Zensical is at 0.1 and, like it, loads a
script from unpkg.com where a site is opened from a folder.
"""
