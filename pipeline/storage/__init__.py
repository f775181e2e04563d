"""Every disk and object store behind one interface: where files are, and how they are written.

    location      a path or URI -> a filesystem and a path; listing and reading
    access        whether a store lets us in, and what to mend if not
    atomic        files written whole, created exclusively, replaced conditionally
    backoff       which errors are transient, and how often a call is tried
    fingerprint   a file's tag, which tells one content from another
    ray_memory    files in the memory of a Ray cluster, for data that no store holds
    parallel      many requests at once, results in order

What is in the files is for the rooms above to decide.
"""
