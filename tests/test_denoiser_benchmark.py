"""The benchmark's transcription of the reference's network and guidance is the same function as ours."""

from experiments.benchmarks.denoiser import compare, load_or_make


def test_the_transcription_computes_what_ours_does():
    theirs, ours, difference = compare(load_or_make(None), batch=2, frames=12, repetitions=1)
    assert difference < 1e-4 and theirs > 0 and ours > 0
