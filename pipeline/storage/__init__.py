"""Every disk and object store behind one interface: where files are, and how they are written.

    location      a path or URI -> a filesystem and a path; listing and reading
    access        whether a store lets us in, and what to mend if not
    atomic        files written whole, created exclusively, replaced conditionally
    backoff       which errors are transient, and how often a call is tried
    write_fault   which errors of OUTPUT last, and how they are told
    hub           which commit of a repository is read, and what the Hub refuses
    walk          the files below a folder, in the order of their paths
    file_table    many files of a listing, in little memory
    contents      what a file is, by its first bytes
    fingerprint   a file's tag, which tells one content from another
    refusals      which faults are a store's rather than a file's
    web           files behind links, whose queries stay out of paths
    ray_memory    files in the memory of a Ray cluster, for data that no store holds
    parallel      many requests at once, results in order

What is in the files is for the rooms above to decide.
"""
