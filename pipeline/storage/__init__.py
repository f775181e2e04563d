"""Every disk and object store behind one interface: where files are, and how they are written.

    location      a path or URI -> a filesystem and a path; listing and reading
    atomic        files written whole, created exclusively, replaced conditionally
    backoff       which errors are transient, and how often a call is tried
    write_fault   which errors of OUTPUT last, and how they are told
    fingerprint   a file's tag, which tells one content from another
    parallel      many requests at once, results in order

What is in the files is for the rooms above to decide.
"""
