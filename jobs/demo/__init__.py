"""The bundled demonstration: drawings, their captions, and the small Gemma 3 trained on them.

drawings, phrases             the drawings; their captions, translations, policies and prompts
dataset                       which drawings are held out, and a parquet file of these
tokenizer, architecture       the bundled model's vocabulary and size
examples, sight, train, save  how it is trained and saved
evaluate                      how good it is
"""
