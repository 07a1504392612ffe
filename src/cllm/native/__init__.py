"""A model learns, is scored and writes here by compiled code, several times faster than by torch.

`engine.py` is what Python sees of learning, `decoder.py` and `stream.py` of writing; `layout.py`
names the parameters, and `parts.py` says which mechanisms a model has beside the plain one.
`drafts.py` counts a text to guess its tokens. `library.py` finds the compiled code that suits the
machine: `build.py` compiles it, when the package is installed or when it is first needed, and
`processor.py` knows which instructions may be used.

The code itself is C++ in `source/`, to be read in this order:

- `shape.h`: what a model holds, and where
- `numbers.h`: number formats and vectors of each processor
- `product.h`: matrix products on packed panels, where nearly all of the time goes
- `weights.h`: the weights as products read them
- `parts.h`: norm, rotation, softmax, SwiGLU and dropout, forward and backward
- `mechanisms.h`: dampening and gamma, forward and backward
- `ngram.h`: the input memory: what chooses its rows, and its sparse optimiser
- `tape.h`: what a forward pass keeps for the backward pass
- `attention.h`: attention of one sequence, with the biases of schumann
- `pass.h`: forward and backward pass of some sequences on one thread
- `threads.h`, `timing.h`: threads that meet, and where their time goes
- `optimiser.h`: AdamW and Muon
- `engine.h`: the threads' passes over a batch, and the sum of their gradients
- `arena.h`: memory that is given back all at once
- `peak.h`: the speed of products alone
- `api.cpp`: the functions that Python calls

and for writing, in `source/decode/`:

- `panels.h`: products of few rows with floats in panels, each sum in one order
- `codebook.h`, `integers.h`: lattice codes; products of integers
- `matrix.h`: a weight matrix in any of the formats, and the rotation before it
- `slots.h`: what is remembered of each text
- `attend.h`: attention over what a slot holds
- `decoder.h`: a pass of tokens of several texts on all threads
- `sampling.h`, `drafts.h`, `writing.h`: the choice of a token, guesses of the next ones, the loop
- `decoding.cpp`: the functions that Python calls
"""

from cllm.native.decoder import CACHES, Cache, Decoder, Quantised
from cllm.native.engine import PHASES, Engine, Update, product_peak
from cllm.native.layout import Place, Shape, named_views, parameter_places
from cllm.native.library import Library, find_library, load_library
from cllm.native.observation import Observation
from cllm.native.parts import TABLE, NgramPart, Parts
from cllm.native.stream import Choice, Feed, Stream

__all__ = [
    "CACHES",
    "PHASES",
    "TABLE",
    "Cache",
    "Choice",
    "Decoder",
    "Engine",
    "Feed",
    "Library",
    "NgramPart",
    "Observation",
    "Parts",
    "Place",
    "Quantised",
    "Shape",
    "Stream",
    "Update",
    "find_library",
    "load_library",
    "named_views",
    "parameter_places",
    "product_peak",
]
