from moored.huggingface.inference.batches import by_length


def test_batches_hold_every_row_once_longest_first():
    texts = ["aa", "a", "aaaa", "", "aa"]
    assert by_length(texts, 2) == [[2, 0], [4, 1], [3]]
    assert by_length([], 3) == []
