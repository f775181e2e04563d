"""The stages of a row on Ray Data, one module each: read, render, generate, parse."""
