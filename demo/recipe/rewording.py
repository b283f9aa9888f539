"""Rewording: the same sentence in other words, so that a model learns to read rather than to recognise.

Owns the synonyms, fillers and openings. A made-up text has few words; each held-out wording has some that no training
template has, and a word never seen means nothing. Only training text is reworded: held-out wordings stay as written.
"""

import re
from typing import Final

from outrider.demo.recipe.domain import split
from outrider.demo.recipe.words import Writer


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.strip().replace("\n", "|").split("|"))


# Words and phrases that may stand for each other, one group a line. Agreement is not kept: what is read counts.
_GROUPS: Final = """
is|was|will be|is now|seems to be|turned out to be|remains|became
are|were|will be|can be|used to be
has|had|owns|holds|comes with|keeps|contains
have|had|own|keep|hold|received
says|said|shows|writes|reads|told us|reports|mentions|showed
the|this|our|that|their|its
they|we|people|you
it|this|that one|the thing
wants|needs|asks for|asked for|would like|requests|hopes for|wishes for
want|need|ask for|would like|chose|decided on|look for
bought|purchased|took|chose|got|received|picked
ordered|asked for|requested|bought|wanted
buy|order|get|purchase|pick
sold|delivered|gave|handed over
send|ship|bring|deliver|hand|forward|mail
sent|shipped|brought|delivered|forwarded|mailed
costs|sells at|goes for|comes to|is charged at|adds up to|amounts to|brings
cost|charge|fee|sum|money
pay|charge|owe|spend|transfer
paid|charged|spent|transferred
price|cost|fee
lives|lived|stays|stayed|resides|is located|dwells
works|worked|serves|is employed|is hired
meets|met|visits|visited|invites|invited|talks to|sees
found|noticed|discovered|spotted|saw|heard of|reported
find|notice|discover|spot|locate|look up
starts|begins|began|started|opens|gets going|kicks off
start|begin|open|get going
ends|ended|closes|closed|stops|is over
ends with|ended with|finishes with|closes with
come|arrive|appear|go
came|arrived|appeared|went|turned up
goes to|travels to|moves to|heads for|is bound for|went to
leaves|departs|takes off|sets off|goes
won|took it|succeeded
played|competed|fought|appeared
scored|made|shot
wrote|penned|authored|created|made
written|penned|authored|created
published|printed|released|issued|brought out
made|prepared|cooked|mixed|turned out
make|prepare|cook|mix|turn out|bake
takes|needs|lasts|requires|uses up
serves|feeds|is enough for|suits
treated|helped|cared for|looked after|examined|saw
reports|complains of|suffers from|mentions|feels
report|complain of|suffer from|mention|feel
looking for|hiring|searching for|seeking
looks for|hires|searches for|seeks|needs
knows|understands|has learned|can do
join|start at|come to|work for|become part of
earn|make|get|receive|be paid
measured|recorded|read|noted|logged|registered
gave|showed|returned|displayed|reached
given|noted|recorded|listed|stated|written down|filed|put down|set
note|see|remember|mind|do not miss|keep in mind
please|kindly|now|if you can
about|around|roughly|some
with|together with|along with|having
because|since|as
weather|sky|forecast|air
warm|cold|hot|cool|mild
house|home|place|building
rooms|chambers|doors
rent|hire|lease|let
job|post|position|work
big|large|wide|great
new|recent|fresh|latest
old|aged
long|thick
many|several|few|any
number|code|mark|reference
team|side|club
game|match|contest
people|persons|guests|fans|visitors|men and women
day|date|morning|night
today|tomorrow|this week|last night|at night|outside
tell me|let me know|show me|say|give me|I want to know|I would like to know
what is|what was|tell me|show me|I need|do you know|look up
how is|how was|what about|tell me about
book|reserve|arrange|get|order
set|put|change|switch|turn
create|make|add|open|set up
check|look up|find out|see|verify
convert|change|turn|exchange|translate
remind|tell|warn|notify
play|start|put on|run
calculate|compute|work out|figure out
extract|get|read|take|pull out|collect
return|give|write|produce|output
text|passage|message|note|source
answer|reply|respond|result
using|following|with|according to|by
matches|follows|fits|obeys
question|query|problem|task
likes|loves|liked|loved|prefers|favours
talks about|is about|tells of|deals with
organises|hosts|runs|arranges|leads|is hosting
fails|crashes|breaks|hangs|does not work
lie|stay|rest|sleep|are
in version|running|it runs
prepares|makes|cooks|turns out
said|told us|taught us|quoted
reach|measure|treat|quote|mean
visiting|hosting|playing
thermometer|sensor|gauge
field|topic|subject|kind
wait|stay|talk|rest
"""

# Words that say nothing about a value, before any plain word.
_FILLERS: Final = _listed(
    """
really|now|also|again|still|just|currently|indeed|apparently|already|only|once more|soon|finally|probably|surely
actually|certainly|always|often|mostly|usually|recently|lately|then|here|today|perhaps|maybe|simply|quite|almost
yet|ever|well|together|altogether|alone|inside|outside|in fact|of course|as usual|so far|by now|at least
for once|this time|after all|on the whole|as expected|without doubt|famous|youngest|oldest|usual|whole|main|next
last|first
"""
)
# Words that may be missing.
_DROPPED: Final = frozenset(
    ("the", "a", "an", "of", "it", "that", "there", "here", "please", "our", "their", "this", "its", "they", "we", "is")
)
# What may stand before a sentence.
_OPENINGS: Final = _listed(
    """
By the way,|Please note:|As we heard,|We heard that|They say|It is said that|As you know,|As far as we know|I think
According to our list,|According to the office,|According to the bank,|According to the airport,|In our list,
On the cover it says:|The letter says:|The display says:|The clock said that|The note said:|It was written that
Here is what we know:|What we know is this:|To be clear,|In short,|Any news? Yes:|Good news:|News:|Also,|And|But|So
Because of the night,|Because of the cold,|Since last week|Since then|In the past|At night|Outside|Inside|Until now
Do not forget:|Do not miss this:|Remember that|Keep in mind that|Be aware that|You should know that|You could see that
My friend says|Someone wrote:|Everyone said that|I was told that|We agreed that|It looks like|It seems that|Once again,
As before,|This time|For the record,|In the end|At the end|At the end of the day|From now on|On the floor it says:
The problem is that|The point is that|The question is whether|The list says|The body of the mail says:|Update:
Altogether,|In all,|On top of that,|Between us,|With care:|With luck,|If I remember well,|Yes,|No doubt,|Well,
"""
)


def _alternatives() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in _GROUPS.strip().splitlines():
        group = tuple(line.split("|"))
        for phrase in group:
            found[phrase.lower()] = found.get(phrase.lower(), ()) + group
    return found


_ALTERNATIVES: Final = _alternatives()
# Whole words outside of braces, the longest phrases first.
_PHRASES: Final = re.compile(
    r"(?<![\w{])(" + "|".join(sorted(_ALTERNATIVES, key=len, reverse=True)) + r")(?![\w}])", re.IGNORECASE
)


def worded(writer: Writer, templates: tuple[str, ...]) -> str:
    """One of the templates that this writer may use; for training mostly reworded, though never to a held-out one."""
    template = writer.one(split(templates, held_out=writer.held_out))
    if writer.held_out or writer.chance(0.3):
        return template
    other = reworded(writer, template)
    return template if other in templates else other


def reworded(writer: Writer, template: str) -> str:
    """The template with some words replaced, left out or added; its placeholders stay, in their order."""

    def replaced(match: re.Match[str]) -> str:
        phrase = match.group()
        if not writer.chance(0.35):
            return phrase
        other = writer.one(_ALTERNATIVES[phrase.lower()])
        return other[0].upper() + other[1:] if phrase[0].isupper() else other

    parts = []
    for word in _PHRASES.sub(replaced, template).split(" "):
        if word in _DROPPED and writer.chance(0.1):
            continue
        if word.isalpha() and word.islower() and writer.chance(0.04):
            parts.append(writer.coined() if writer.chance(0.2) else writer.one(_FILLERS))
        parts.append(word)
    return " ".join(parts)


def opened(writer: Writer, sentence: str) -> str:
    """The sentence template, for training sometimes after a few words that say nothing about it."""
    if writer.held_out or not writer.chance(0.15):
        return sentence
    first = sentence[0] if sentence.startswith(("I ", "Dr.")) else sentence[0].lower()
    return f"{writer.one(_OPENINGS)} {first}{sentence[1:]}"
