"""The words of the microworld, as data. People and towns are made up."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = tuple(
    head + tail
    for head in _words("ba do fa ka lo mi")
    for tail in _words("bin dor fen gar lan mek mol nas ril rus shan sol tar tor vel von wen wik zan zel")
)
TOWNS = tuple(head + tail for head in _words("nor wes kal") for tail in _words("burg ham ton field"))


_COMMON = {
    "fruit": _words(
        "apple pear plum lemon melon grape fig orange cherry peach quince date lime mango banana apricot kiwi papaya"
        " currant raisin olive coconut guava tangerine"
    ),
    "vegetable": _words(
        "carrot onion bean turnip leek pumpkin beet pea cabbage radish potato lettuce cucumber tomato garlic parsnip"
        " celery squash lentil shallot pepper sprout artichoke yam"
    ),
    "tool": _words(
        "hammer drill shovel rake axe chisel saw file plane wrench crowbar anvil pickaxe sickle scythe hoe trowel clamp"
        " lever mallet tong spade hatchet pulley"
    ),
    "animal": _words(
        "dog cat horse cow goat duck rabbit pig sheep donkey hen mule camel ferret turtle parrot lizard hamster pony"
        " falcon otter badger lamb raven"
    ),
    "instrument": _words(
        "violin flute drum guitar trumpet piano harp cello organ horn lute bell banjo oboe clarinet fiddle tuba zither"
        " mandolin bagpipe viola bassoon gong recorder"
    ),
    "garment": _words(
        "coat hat scarf glove shirt sock belt jacket boot cloak dress apron skirt sweater vest shawl robe slipper cap"
        " tunic blouse sandal mitten hood"
    ),
    "vehicle": _words(
        "car truck boat bicycle wagon tractor sledge van cart ferry canoe coach raft scooter carriage tram sailboat"
        " barge kayak bus tanker yacht glider lorry"
    ),
    "vessel": _words(
        "bottle jar bowl cup bucket barrel kettle pan basket jug tub flask pot vase crate goblet tray mug pitcher"
        " cauldron chest urn teapot beaker"
    ),
}
"""Kind -> what everybody calls its things."""


def _hill_names(number: int) -> tuple[str, ...]:
    """Made-up words of one or two syllables, in an order that mixes their sounds."""
    heads, hearts = _words("bl br dr fl g gl h j k kr l m n p pl r s sk st t tr v w z"), _words("a e i o u oa ee ou")
    tails = _words("b ck dge ff g lk lm mp nd nk p rd rf rk sk sp th v zz")
    made = (f"{head}{heart}{tail}" for tail in tails for heart in hearts for head in heads)
    return tuple(sorted(made, key=lambda word: zlib.crc32(word.encode())))[:number]


_NAMES = iter(_hill_names(sum(map(len, _COMMON.values()))))
THINGS = {
    kind: tuple(zip(common, itertools.islice(_NAMES, len(common)), strict=True)) for kind, common in _COMMON.items()
}
"""Kind -> its things, each by both its names: what everybody says, and what they say in the hills."""
ABOVE = {name: kind for kind, things in THINGS.items() for names in things for name in names} | {
    "fruit": "food",
    "vegetable": "food",
}
"""Noun -> its kind; and kind -> the wider kind, where it has one."""
OTHER_NAME = {
    name: other for things in THINGS.values() for one, two in things for name, other in ((one, two), (two, one))
}
"""Name of a thing -> its other name."""

CARES = _words(
    "polishes weighs paints counts hides carries shakes measures sketches wraps lifts dusts labels ties rolls stacks"
    " airs rinses warms cools marks covers trades praises turns trims guards oils brushes dries shows shares"
)
QUALITIES = _words(
    "heavy light round smooth rough soft hard wet dry old new small large thin thick sweet bitter sour cold loud quiet"
    " dark long short wide narrow plain dusty striped wooden golden spotted"
)
PLACES = _words(
    "attic barn cellar kitchen garden shed yard market harbour mill chapel school bakery stable tower cave"
    " meadow forest orchard bridge quarry pond courtyard hall workshop pantry porch field dock inn tent hut"
)
"""What is done with things, how they are, and where they are found: by which their meaning is known (`world.usage`)."""

COLORS = _words("red blue green black")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
NUMBERS = _words("no a two three four five")
MOST = len(NUMBERS) - 1
"""The largest count that the language can say."""
JOBS = _words(
    "baker painter singer doctor nurse teacher farmer sailor carpenter tailor cook driver gardener lawyer miner judge"
)

PRAISE = _words(
    "great charming gripping tender witty brilliant lovely moving clever delightful superb graceful honest vivid "
    "bold elegant funny touching splendid magical wonderful inspired lively thrilling beautiful smart amusing "
    "dazzling enchanting excellent exciting fabulous fascinating fine flawless glorious gorgeous heartfelt "
    "hilarious imaginative impressive ingenious joyful luminous magnificent marvellous masterly memorable "
    "mesmerizing outstanding perfect playful poetic polished powerful profound radiant refreshing remarkable "
    "riveting satisfying sensitive serene sincere skilful soulful stirring stunning sublime subtle suspenseful "
    "sympathetic terrific thoughtful triumphant unforgettable uplifting wise worthy zestful"
)
BLAME = _words(
    "terrible dull boring clumsy tedious shallow stale messy bland awful weak lifeless silly predictable noisy "
    "ugly hollow crude dreary painful lazy pointless sloppy ridiculous tiresome annoying confusing abysmal absurd "
    "amateurish appalling artless banal bloated botched careless chaotic cheesy cliched cluttered contrived dated "
    "deplorable derivative dire disjointed dismal dreadful embarrassing exhausting feeble forgettable formulaic "
    "frantic grating gloomy hackneyed horrible idiotic incoherent inept insipid irritating lame leaden limp "
    "ludicrous mediocre mindless miserable muddled overlong pathetic plodding poor pretentious repetitive shoddy "
    "stilted turgid"
)
WORKS = _words("film book play show story novel musical drama")
PARTS = _words("plot cast music ending dialogue acting pace scenery")


@dataclass(frozen=True)
class Verb:
    """One verb: ``buy``, ``bought``, ``bought``."""

    base: str
    finite: str
    participle: str


def _senses(*lines: str) -> dict[str, tuple[Verb, ...]]:
    return {line.split()[0]: tuple(Verb(*verb.split()) for verb in line.split("|")) for line in lines}


ACTIONS = _senses(
    "buy bought bought | purchase purchased purchased",
    "find found found | discover discovered discovered",
    "lose lost lost | misplace misplaced misplaced",
    "fix fixed fixed | repair repaired repaired",
    "break broke broken | damage damaged damaged",
    "clean cleaned cleaned | wash washed washed",
    "steal stole stolen | snatch snatched snatched",
    "collect collected collected | gather gathered gathered",
)
"""What was done to a thing, in the past; the verbs of a line mean the same."""

STATES = _senses(
    "own owns owned | possess possesses possessed",
    "want wants wanted | desire desires desired",
    "like likes liked | enjoy enjoys enjoyed",
    "fear fears feared | dread dreads dreaded",
)
"""What holds of a thing, in the present."""

TRANSFERS = _senses("give gave given | hand handed handed", "lend lent lent | loan loaned loaned")
RECEIVING = {"give": Verb("receive", "received", "received"), "lend": Verb("borrow", "borrowed", "borrowed")}
"""From one person to another, and the verb that tells it from the other's side."""

SENSES = ACTIONS | STATES | TRANSFERS
