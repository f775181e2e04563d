"""How fast our model is beside vLLM's own: the measuring, the same on a CPU and on a GPU."""
