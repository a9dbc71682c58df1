"""Writes state_dict.pth and old_state_dict.pth: a tiny state dict as torch.save writes it, as a zip archive and in the format from before
PyTorch 1.6, with every kind of tensor that the reader knows.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install torch
    "$VENV"/bin/python make_state_dict.py        # writes the files beside this one

The expected values stand in the test that reads the files, in src/tensor_file/mod.rs.
"""

import collections
import pathlib

import torch

HERE = pathlib.Path(__file__).parent


def main():
    base = torch.arange(8, dtype=torch.float32) * 0.5
    state = collections.OrderedDict(
        plain=(torch.arange(6) - 2.5).reshape(2, 3),
        transposed=torch.arange(6, dtype=torch.float64).reshape(2, 3).t(),
        half=torch.tensor([0.5, -2.0, 65504.0], dtype=torch.float16),
        brain=torch.tensor([1.0, -3.0, 2.0**100], dtype=torch.bfloat16),
        view=base[2:6].reshape(2, 2),
        same_storage=base[::3],
        repeated=torch.tensor([[1.0], [2.0]]).expand(2, 3),
        parameter=torch.nn.Parameter(torch.tensor([4.0, 5.0])),
        scalar=torch.tensor(9.0),
        empty=torch.zeros(0, 3),
        counter=torch.tensor(7),
    )
    # As every Module's state dict has it.
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    torch.save(state, HERE / "state_dict.pth")
    torch.save(state, HERE / "old_state_dict.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
