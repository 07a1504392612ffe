"""Models out to other programs and in from them.

Out: `plain_model.py` is what can leave; `huggingface.py`, `gguf_writer.py`, `onnx_graph.py` and
`numpy_model.py` write it, `opened.py` and `verdict.py` try what was written with the program it
is for. In: `huggingface_reader.py` and `gguf_reader.py` find a `foreign_model.py`, all claims of
its files checked (`safetensors_reader.py`, `stored_tensor.py`, `foreign_config.py`) before a
number is read, with its tokeniser (`foreign_tokenizer.py`, `gguf_vocabulary.py`).
"""
