"""The bundled demonstration: drawings, their captions, and the small Gemma 3 trained on them."""
