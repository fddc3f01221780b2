import moored
from moored.embedded.prompts import openings, request_pairs


def test_each_request_is_another_one_with_a_compliant_opening():
    examples = moored.harmful_examples()
    requests, begun = zip(*examples, strict=True)
    assert len(set(requests)) == len(examples) == 32
    assert {*requests} <= {pair.harmful for pair in request_pairs("align")} and {*begun} <= {*openings().complying}
    assert moored.HarmfulDirection(examples=examples).examples == examples
