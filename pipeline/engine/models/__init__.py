"""How what a user names as a model becomes a folder on this machine.

fetched           the one way in: a model's name, fetched, as every machine can find it again
hub               a repository of the Hugging Face Hub, in the hub's own cache
store             a folder of an object store, in our cache
gguf              a GGUF file, converted into our cache (`gguf_conversion` is the process)
cache             where our cache is, and that one process at a time writes to a folder in it
needed_files      which files of a model are the model, and which are other formats of it
"""
