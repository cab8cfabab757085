"""Nodes and models are called alike on all pages."""

from __future__ import annotations

from gleaner.names import Called, short_model


def test_a_model_is_called_on_the_pages_of_the_past_as_on_the_first_one() -> None:
    short = {"NVIDIA H100 80GB HBM3": "H100"}
    names = Called(models=short)

    for model in ("NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 4090", "Simulated H100"):
        assert names.model(model) == short_model(model, short)
    assert names.model(None) == "unknown model"
