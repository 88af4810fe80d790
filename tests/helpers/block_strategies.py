"""Blocks of any size and kind, for hypothesis."""

from hypothesis import strategies as st

from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer

_SIZES = st.integers(1, 1 << 16)


@st.composite
def any_block(draw: st.DrawFn) -> Block:
    """A stem, a head, an MBConv or an identity whose sizes are anything from 1 to 65,536."""
    c, out, height, width = (draw(_SIZES) for _ in range(4))
    role = draw(st.sampled_from(["block", "stem", "head"]))
    stride = 1 if role == "head" else draw(st.sampled_from([1, 2]))
    if role == "block" and draw(st.booleans()):
        out, stride = c, 1
    hidden = draw(_SIZES) if role == "head" else 0
    layer = Layer(c, out, stride, height, width, role, hidden)
    if role != "block":
        return Block(STEM if role == "stem" else HEAD, layer)
    shortcut = layer.keeps_shape and draw(st.booleans())
    mbconv = Candidate(draw(st.integers(0, 15)) * 2 + 1, draw(st.integers(1, 20)), shortcut)
    return Block(draw(st.sampled_from([mbconv, IDENTITY])) if layer.keeps_shape else mbconv, layer)
