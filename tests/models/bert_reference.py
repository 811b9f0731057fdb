"""BERT in NumPy, and Hugging Face's in PyTorch: the two oracles of `fedlab.models.bert`.

Run as a program, it prints the numbers of Hugging Face that test_bert.py expects. They were made
with torch 1.13.0 and transformers 4.36.2:
`python tests/models/bert_reference.py [folder of MiniLM's checkpoint]`
"""

import json
import math

import numpy as np

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}
NUM_LABELS = 3


def shapes(config):
    """Name -> shape of every tensor of Hugging Face's BERT, in its order, without a head."""
    d, wide = config["hidden_size"], config["intermediate_size"]
    norm = lambda name: {f"{name}.weight": [d], f"{name}.bias": [d]}  # noqa: E731
    dense = lambda name, n, m: {f"{name}.weight": [m, n], f"{name}.bias": [m]}  # noqa: E731
    found = {
        "embeddings.word_embeddings.weight": [config["vocab_size"], d],
        "embeddings.position_embeddings.weight": [config["max_position_embeddings"], d],
        "embeddings.token_type_embeddings.weight": [config["type_vocab_size"], d],
        **norm("embeddings.LayerNorm"),
    }
    for i in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            found |= dense(f"{block}.attention.self.{name}", d, d)
        found |= dense(f"{block}.attention.output.dense", d, d) | norm(
            f"{block}.attention.output.LayerNorm"
        )
        found |= dense(f"{block}.intermediate.dense", d, wide)
        found |= dense(f"{block}.output.dense", wide, d) | norm(f"{block}.output.LayerNorm")
    return found


def tensors(config=CONFIG, seed=0):
    """Random tensors, large enough that every part of the model has an effect."""
    d = config["hidden_size"]
    wanted = shapes(config) | {"pooler.dense.weight": [d, d], "pooler.dense.bias": [d]}
    wanted |= {
        "qa_outputs.weight": [2, d],
        "qa_outputs.bias": [2],
        "classifier.weight": [NUM_LABELS, d],
        "classifier.bias": [NUM_LABELS],
    }
    rng = np.random.default_rng(seed)
    one = lambda name: 1.0 if name.endswith("LayerNorm.weight") else 0.0  # noqa: E731
    return {
        name: (rng.normal(size=shape) * 0.4 + one(name)).astype(np.float32)
        for name, shape in wanted.items()
    }


def inputs(n, length, vocab_size, seed=0):
    """Token ids, segments and masks; the first example fills its row, the others end in padding."""
    rng = np.random.default_rng(seed)
    real = rng.integers(length // 2, length + 1, n)
    real[0] = length
    at = np.arange(length)
    mask = (at < real[:, None]).astype(np.int32)
    return {
        "input_ids": (rng.integers(0, vocab_size, [n, length]) * mask).astype(np.int32),
        "token_type_ids": ((at >= length // 3) * mask).astype(np.int32),
        "attention_mask": mask,
    }


def forward(t, config, input_ids, token_type_ids, attention_mask):
    """Hidden states [n, length, d] by the paper's formulas, in float64."""
    t = {name: value.astype(np.float64) for name, value in t.items()}
    dense = lambda x, name: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]  # noqa: E731

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt(
            (centered**2).mean(-1, keepdims=True) + config.get("layer_norm_eps", 1e-12)
        )
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    n, length = input_ids.shape
    x = (
        t["embeddings.word_embeddings.weight"][input_ids]
        + t["embeddings.token_type_embeddings.weight"][token_type_ids]
    )
    x = norm(x + t["embeddings.position_embeddings.weight"][:length], "embeddings.LayerNorm")
    num_heads = config["num_attention_heads"]
    width = config["hidden_size"] // num_heads
    for i in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{i}"
        q, k, v = (dense(x, f"{block}.attention.self.{name}") for name in ("query", "key", "value"))
        attended = np.zeros_like(x)
        for example in range(n):
            seen = attention_mask[example] > 0
            for head in range(num_heads):
                part = slice(head * width, (head + 1) * width)
                scores = q[example][:, part] @ k[example][seen][:, part].T / math.sqrt(width)
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                attended[example][:, part] = (
                    weights / weights.sum(-1, keepdims=True) @ v[example][seen][:, part]
                )
        x = norm(
            x + dense(attended, f"{block}.attention.output.dense"),
            f"{block}.attention.output.LayerNorm",
        )
        wide = dense(x, f"{block}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + dense(wide, f"{block}.output.dense"), f"{block}.output.LayerNorm")
    return x


def span_logits(t, hidden):
    """[n, 2, length], without a mask."""
    return np.moveaxis(hidden @ t["qa_outputs.weight"].T + t["qa_outputs.bias"], 2, 1)


def class_logits(t, hidden):
    """[n, NUM_LABELS]"""
    pooled = np.tanh(hidden[:, 0] @ t["pooler.dense.weight"].T + t["pooler.dense.bias"])
    return pooled @ t["classifier.weight"].T + t["classifier.bias"]


def write(folder, t, config=CONFIG, rename=lambda name: name, file="model.safetensors"):
    """A checkpoint as Hugging Face writes it. Returns its folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {rename(name): np.ascontiguousarray(value) for name, value in t.items()},
        folder / file,
        {"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    return folder


def main(checkpoint=None):
    import torch
    import transformers

    rounded = lambda values: np.asarray(values, np.float64).round(6).tolist()  # noqa: E731

    def as_torch(columns):
        return {name: torch.tensor(column.astype(np.int64)) for name, column in columns.items()}

    t, x = tensors(), inputs(2, 9, CONFIG["vocab_size"])
    config = transformers.BertConfig(**CONFIG, num_labels=NUM_LABELS)
    with torch.no_grad():
        for cls, name in (
            (transformers.BertForQuestionAnswering, "qa"),
            (transformers.BertForSequenceClassification, "classes"),
        ):
            config.num_labels = 2 if name == "qa" else NUM_LABELS
            model = cls(config).eval()
            state = {
                key
                if key.split(".")[0] in ("qa_outputs", "classifier")
                else f"bert.{key}": torch.tensor(v)
                for key, v in t.items()
            }
            wrong = [
                key
                for key in model.load_state_dict(state, strict=False).missing_keys
                if not key.endswith("position_ids")
            ]
            assert not wrong, wrong
            out = model(**as_torch(x))
            values = (
                np.stack([out.start_logits, out.end_logits], 1)
                if name == "qa"
                else out.logits.numpy()
            )
            print(name, rounded(values))
        if checkpoint:
            model = transformers.BertModel.from_pretrained(checkpoint).eval()
            hidden = model(**as_torch(inputs(3, 32, 30522))).last_hidden_state.numpy()
            print("minilm", [rounded(hidden[i, j, :6]) for i, j in ((0, 0), (1, 5), (2, 15))])


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
