"""A student that starts from the weights of a pretrained model of Llama's shape."""
