"""Some two hundred texts unlike each other, by which encoders are judged where nobody gives others.

They are of many scripts and lengths, and some are no language at all: what a model was not trained
for is where a rounded one strays first.
"""

# Letters that look like others are what some of these are for.
# ruff: noqa: RUF001

from __future__ import annotations

import unicodedata
from typing import Final

_SENTENCES: Final = """
The harbour froze over and no ship left until March.
She signed the contract after the third lawyer had read it.
Photosynthesis turns light into chemical energy in the leaves of plants.
The committee will meet on Thursday to discuss next year's budget.
My bicycle has a flat tyre and the shop is closed.
A vaccine trains the immune system without causing the disease.
He scored twice in the last ten minutes and won the cup.
Boil the pasta in salted water until it is firm to the bite.
The court ruled that the search had been unlawful.
Interest rates rose again, and mortgages with them.
An old lighthouse keeper remembers the storm of his youth.
The function returns the index of the first element that matches.
Tectonic plates move a few centimetres a year.
Please send the invoice to our accounting department.
The orchestra tuned their instruments before the curtain rose.
Whales sing to each other over hundreds of kilometres.
The battery loses a fifth of its capacity after five hundred charges.
Their wedding was held in a small chapel near the lake.
The novel describes a family in decline over four generations.
Rust prevents data races at compile time by its rules of ownership.
The museum shows bronze tools from the third millennium before our era.
Turn left at the fountain and follow the river for a mile.
The patient complains of a headache and a sore throat.
Unemployment fell to its lowest level in twenty years.
The recipe needs two eggs, a cup of flour and some butter.
Snow leopards live above the tree line in the mountains of Asia.
The train to the airport leaves every fifteen minutes.
Nobody knows who wrote the letter, or why it was never sent.
A black hole bends light so strongly that none escapes.
The teacher asked the class to read the poem aloud.
The merger must still be approved by the regulators.
Grapes are picked by hand on the steep slopes above the village.
The engine overheats when the coolant is low.
Children learn their first language without being taught grammar.
The new bridge shortens the journey by half an hour.
I would not recommend this hotel: the room was dirty and loud.
The best headphones I have ever owned, worth every penny!
The database keeps a log so that it can recover after a crash.
Bees tell each other where flowers are by dancing.
The painting was stolen in 1990 and has never been found.
Does this jacket come in a larger size?
The volcano had been quiet for six hundred years.
Her grandmother taught her to mend nets and to read the clouds.
Cement is made by heating limestone with clay.
The referee blew the whistle and nobody heard it.
Antibiotics do not help against a cold.
The printer prints only in black, whatever I set.
"""

_SHORT: Final = """
jazz
how to tie a bow tie
cheap flights to Lisbon
python list comprehension
symptoms of iron deficiency
red wine stain removal
capital of Mongolia
noise cancelling headphones under 100
who invented the telephone
vegan chocolate cake
compiler
dog training
the history of glass
best time to visit Japan
convert miles to kilometres
used electric car range
knitting patterns for beginners
text editor
stock market crash 1929
how deep is the ocean
lightweight tent for two
history of zero
fix squeaky door
"""

_LANGUAGES: Final = """
Der Hafen war zugefroren, und bis März lief kein Schiff aus.
Fußgänger müssen bei Rot stehen bleiben; Übergrößen kosten mehr.
Le chat dort sur le canapé près de la fenêtre ouverte.
¿Dónde está la biblioteca más cercana, por favor?
Il treno per l'aeroporto parte ogni quindici minuti.
O mar estava calmo e as crianças brincavam na areia.
De fiets staat tegen de muur achter het huis.
Sommaren är kort, det mesta regnar bort.
Yön aikana satoi lunta, ja tiet olivat liukkaita.
Kávu s mlékem a dva rohlíky, prosím.
Zażółć gęślą jaźń.
A macska az asztal alatt alszik.
Pisica doarme lângă sobă, iar afară ninge.
Güneş battıktan sonra hava çok soğudu.
Con mèo đang ngủ trên ghế sô pha.
Kucing itu tidur di bawah meja dapur.
Paka analala chini ya meza.
Кошка спит на диване у открытого окна.
Потяг до аеропорту відправляється щопівгодини.
Котката спи под масата.
Η γάτα κοιμάται κάτω από το τραπέζι.
החתול ישן מתחת לשולחן במטבח.
القطة نائمة تحت الطاولة في المطبخ.
گربه زیر میز آشپزخانه خوابیده است.
بلی باورچی خانے میں میز کے نیچے سو رہی ہے۔
बिल्ली रसोई में मेज़ के नीचे सो रही है।
বিড়ালটি টেবিলের নিচে ঘুমাচ্ছে।
பூனை மேசைக்கு அடியில் தூங்குகிறது.
పిల్లి బల్ల కింద నిద్రపోతోంది.
แมวนอนหลับอยู่ใต้โต๊ะในครัว
ແມວນອນຢູ່ກ້ອງໂຕະ
កាក្រោមតុ ឆ្មាកំពុងដេក។
კატა მაგიდის ქვეშ სძინავს.
Կատուն քնած է սեղանի տակ։
ድመቷ ከጠረጴዛው ስር ተኝታለች።
猫在厨房的桌子下面睡觉。
貓在廚房的桌子下面睡覺。
猫は台所のテーブルの下で寝ています。
カタカナトひらがなと漢字
고양이가 부엌 식탁 아래에서 자고 있다.
ᚠᚢᚦᚨᚱᚲ ᚷᚹ ᚺᚾᛁᛃ
"""

_MARKS: Final = """
😀
😀😃😄😁😆😅😂🤣
I ❤️ this so much!!! 🎉🎉🎉
👩‍👩‍👧‍👦 family, 👍🏽 thumb, 🇯🇵 flag
→ ← ↑ ↓ ⇒ ∀x ∈ ℝ: x² ≥ 0
½ + ¼ = ¾, 10 µm, 25 °C, 5 €
?!?!...---***
“Quotes” — and dashes – and… ellipses
ﬁnancial oﬃce, Ⅷ, ①②③, ｆｕｌｌ ｗｉｄｔｈ
𝔣𝔯𝔞𝔨𝔱𝔲𝔯 𝒔𝒄𝒓𝒊𝒑𝒕 𝟘𝟙𝟚
Z̸̢̛a̷͝l̶̈g̵̃o̴͠ ţ̵e̶͘x̸̂t̷̚
naïve café résumé coöperate Ångström
"""

_NUMBERS: Final = """
0
42
3.14159265358979323846
-17 °C to +35 °C
1,234,567.89
2026-11-26T16:33:12Z
+49 30 1234567
4111 1111 1111 1111
0xDEADBEEF
1e-308
192.168.0.1/24
ISBN 978-3-16-148410-0
10 9 8 7 6 5 4 3 2 1
12:30-13:15, room B-204
"""

_CODE: Final = """
def add(a, b): return a + b
for (int i = 0; i < n; ++i) { sum += a[i]; }
SELECT name, count(*) FROM users WHERE age >= 18 GROUP BY name;
{"key": [1, 2, {"nested": null}], "ok": true}
<a href="https://example.com/?q=1&r=2#top">link</a>
https://example.com/a/very/long/path/to/some/page.html?with=parameters&and=more
someone.with.a.name@mail.example.org
rm -f /tmp/scratch/*.log && echo done | tee out.txt
C:\\Program Files\\Example\\bin\\tool.exe --flag=value
^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*)@(.+)$
fn main() { println!("{}", vec![1, 2, 3].iter().sum::<i32>()); }
Traceback (most recent call last): KeyError: 'name'
\\frac{d}{dx} \\int_a^x f(t) \\, dt = f(x)
5f4dcc3b5aa765d61d8327deb882cf99
aGVsbG8gd29ybGQsIHRoaXMgaXMgYmFzZTY0
camelCaseIdentifier snake_case_identifier SCREAMING_CASE
"""

_ODD: Final = (
    "",
    " ",
    "\n",
    "\t\t  \r\n",
    "a",
    "Z",
    "7",
    ".",
    "é",
    "語",
    "\u00a0",
    "\u200b\u200c\u200d\ufeff",
    "\x00",
    "null\x00inside\x00text",
    "\x01\x02\x03\x1b[31mred\x1b[0m\x7f",
    "bell \x07 backspace \x08 form feed \x0c vertical tab \x0b",
    "\u202eright to left override",
    "\ufffd replacement \ufffe and \uffff",
    "\U000e0041\U0010ffff",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "<s> </s> <unk> <pad>",
    "aaaa" * 150,
    "word " * 40,
    "no" * 3,
    "ALL CAPITALS ARE LOUD",
    "all capitals are loud",
    unicodedata.normalize("NFD", "naïve café résumé coöperate Ångström"),
    "   leading and trailing blanks   ",
    "line one\nline two\nline three",
)


def varied_texts() -> tuple[str, ...]:
    """Return the texts, always the same; all are different from each other."""
    sentences = _lines(_SENTENCES)
    long = [" ".join(sentences[first::3]) for first in range(3)]
    long += [
        " ".join(sentences * 3),  # past what most models take
        " ".join(_lines(_LANGUAGES)),
        " ".join(_lines(_CODE)),
        " ".join(_lines(_NUMBERS)) * 4,
        "".join(_lines(_MARKS)) * 6,
        " ".join(f"{number}" for number in range(300)),
        " ".join(reversed(" ".join(sentences[:20]).split())),
    ]
    pairs = [f"{one} {two}" for one, two in zip(sentences[:20:2], sentences[1:20:2], strict=True)]
    groups = (_SENTENCES, _SHORT, _LANGUAGES, _MARKS, _NUMBERS, _CODE)
    texts = [line for group in groups for line in _lines(group)]
    return tuple(dict.fromkeys([*_ODD, *texts, *pairs, *long]))


def _lines(text: str) -> list[str]:
    return text.strip("\n").split("\n")
