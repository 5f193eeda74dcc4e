"""How the rows of a student fill whole blocks in llama.cpp's file: widened with zeros, or some of them in Q4_0.

Q4_0 has blocks of 32 and holds the ternary codes exactly, at 4.5 bits a weight. The embedding needs no zeros then,
and in a small student it is nearly all of the file.
"""

from dataclasses import dataclass, replace

from bitnet_core.errors import UsageError
from bitnet_core.export.blocks import EMBEDDING_TYPES, F16, F32, LINEAR_TYPES, Q4_0, Q8_0, BlockType
from bitnet_core.export.padding import Padding, padding_for
from bitnet_core.model.config import StudentConfig


@dataclass(frozen=True)
class Layout:
    """The shape in the file, how the student is widened to it, and the types of the tensors."""

    shape: StudentConfig
    wide: Padding
    linear: BlockType
    embedding: BlockType

    def linear_type(self, columns: int) -> BlockType:
        """The type of a linear whose rows have `columns` columns in the file."""
        return Q4_0 if columns % self.linear.weights else self.linear

    def tensor_bytes(self) -> int:
        """All tensors, without the space between them."""
        layers, hidden = self.shape.num_hidden_layers, self.shape.hidden_size
        shapes = self.shape.linear_shapes().values()
        linears = sum(self.linear_type(columns).size(rows * columns) for rows, columns in shapes)
        others = layers * (3 * hidden + self.shape.intermediate_size + len(shapes)) + hidden
        return layers * linears + self.embedding.size(self.shape.vocab_size * hidden) + F32.size(others)


def layout_named(config: StudentConfig, linear: str, embedding: str = "") -> Layout:
    """The layout of an export with types of these names. UsageError for other names.

    The embedding is F16 in an F16 file, and in the others of the type in which the student's is kept, or Q8_0 if it
    was trained; unless it is named.
    """
    linear_type = _known(LINEAR_TYPES, linear, "--type")
    default = F16.name if linear_type is F16 else config.embedding_type or Q8_0.name
    return layout_for(config, linear_type, _known(EMBEDDING_TYPES, embedding or default, "--embedding"))


def _known(types: dict[str, BlockType], name: str, option: str) -> BlockType:
    if name not in types:
        raise UsageError(f"{option} is {name!r}; it is one of {', '.join(types)}.")
    return types[name]


def layout_for(config: StudentConfig, linear: BlockType, embedding: BlockType) -> Layout:
    """That of the smaller file: with all rows widened to whole blocks of these types, or to those of Q4_0."""
    layouts = [layout_in_blocks(config, linear, embedding, block) for block in (linear.weights, Q4_0.weights)]
    return min(layouts, key=Layout.tensor_bytes)


def layout_in_blocks(config: StudentConfig, linear: BlockType, embedding: BlockType, block: int) -> Layout:
    """The least sizes that blocks of `block` weights divide."""
    # Every linear but `down_proj` reads rows of the hidden size, and so does the embedding.
    wide = padding_for(config, max(block, embedding.weights), block)
    shape = replace(
        config,
        hidden_size=wide.hidden,
        intermediate_size=wide.ffn,
        num_attention_heads=wide.heads,
        num_key_value_heads=wide.kv_heads,
    )
    return Layout(shape, wide, linear, embedding)
