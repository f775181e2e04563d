"""The steps a row takes on Ray Data, one module each: read, render, generate, parse."""
