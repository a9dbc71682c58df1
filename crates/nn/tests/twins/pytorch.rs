//! Every operation and its gradients against what PyTorch says, see `tests/oracle/make_gradients.py`.
