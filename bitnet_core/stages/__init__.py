"""The five stages and the pipeline, a thin script each. `catalog` and `context` are light; the stages are not."""
