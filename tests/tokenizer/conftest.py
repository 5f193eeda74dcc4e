from tests.tokenizer.vocabularies import mistral, sentencepiece_model  # noqa: F401
