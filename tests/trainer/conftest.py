import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """A forked child has none of the threads that OpenMP made for the tests before, and would wait for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
