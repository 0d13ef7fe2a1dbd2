"""The bundled base model, made by `markov_cot.models.nano.build`."""
