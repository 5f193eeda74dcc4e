"""A student as files for other programs: transformers and llama.cpp. It knows no training and no experiment."""
