"""The embedded demo set: its shape, and what makes it worth reading.

``LEGAL`` is the part of the DBpedia ontology it covers, written down independently of the files.
"""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from hyperlm.data import load_data
from hyperlm.data.splits import SPLITS

LEGAL = {
    "Agent": {
        "Artist": (
            "FashionDesigner",
            "Painter",
        ),
        "Athlete": (
            "ChessPlayer",
            "Swimmer",
            "TennisPlayer",
        ),
        "Cleric": ("Saint",),
        "Company": ("Airline",),
        "EducationalInstitution": (
            "Library",
            "University",
        ),
        "FictionalCharacter": ("MythologicalFigure",),
        "Group": ("Band",),
        "Organisation": ("PoliticalParty",),
        "Person": (
            "Architect",
            "Astronaut",
            "Economist",
            "Monarch",
            "Philosopher",
        ),
        "Politician": ("PrimeMinister",),
        "WinterSportPlayer": ("FigureSkater",),
        "Writer": ("Poet",),
    },
    "Device": {
        "Engine": ("AutomobileEngine",),
    },
    "Event": {
        "NaturalEvent": (
            "Earthquake",
            "SolarEclipse",
        ),
        "Olympics": ("OlympicEvent",),
        "Race": (
            "CyclingRace",
            "HorseRace",
        ),
        "SocietalEvent": (
            "Election",
            "FilmFestival",
            "MilitaryConflict",
        ),
        "SportsEvent": ("GrandPrix",),
        "Tournament": ("TennisTournament",),
    },
    "Place": {
        "BodyOfWater": ("Lake",),
        "Building": (
            "Castle",
            "Museum",
            "Prison",
        ),
        "CelestialBody": (
            "Galaxy",
            "Planet",
        ),
        "Infrastructure": (
            "Airport",
            "Dam",
        ),
        "NaturalPlace": (
            "Cave",
            "Glacier",
            "Volcano",
        ),
        "RouteOfTransportation": (
            "Bridge",
            "RailwayLine",
        ),
        "Satellite": ("ArtificialSatellite",),
        "SportFacility": ("Stadium",),
        "Stream": ("River",),
        "Tower": ("Lighthouse",),
        "Venue": ("Theatre",),
    },
    "Species": {
        "Animal": (
            "Amphibian",
            "Arachnid",
            "Bird",
            "Crustacean",
            "Fish",
            "Insect",
            "Mollusca",
            "Reptile",
        ),
        "Eukaryote": ("Fungus",),
        "Horse": ("RaceHorse",),
        "Plant": (
            "Conifer",
            "Fern",
        ),
    },
    "SportsSeason": {
        "FootballLeagueSeason": ("NationalFootballLeagueSeason",),
        "SportsTeamSeason": ("SoccerClubSeason",),
    },
    "TopicalConcept": {
        "Genre": ("MusicGenre",),
    },
    "UnitOfWork": {
        "LegalCase": ("SupremeCourtOfTheUnitedStatesCase",),
    },
    "Work": {
        "Cartoon": ("HollywoodCartoon",),
        "Comic": ("Manga",),
        "MusicalWork": (
            "Album",
            "ClassicalMusicComposition",
            "Musical",
        ),
        "PeriodicalLiterature": (
            "AcademicJournal",
            "Newspaper",
        ),
        "Software": ("VideoGame",),
        "Song": ("EurovisionSongContestEntry",),
        "WrittenWork": (
            "Play",
            "Poem",
        ),
    },
}


@pytest.fixture(scope="module")
def demo():
    return load_data("demo")


@pytest.fixture(scope="module")
def by_leaf(demo):
    """Leaf path -> its texts of all splits."""
    texts: dict[tuple[str, ...], list[str]] = {}
    for split in SPLITS:
        part = demo.split(split)
        for text, paths in zip(part.texts, part.paths, strict=True):
            texts.setdefault(paths[0], []).append(text)
    return texts


def test_every_path_is_a_class_path_of_the_ontology(by_leaf):
    legal = {(a, b, c) for a, middle in LEGAL.items() for b, cs in middle.items() for c in cs}
    assert set(by_leaf) == legal
    assert len(LEGAL) == 9
    assert len(legal) >= 60


def test_every_path_occurs_in_the_full_set(by_leaf):
    root = os.environ.get("HYPERLM_DATA")
    if not root or not Path(root, "dbpedia").is_dir():
        pytest.skip("no folder dbpedia in HYPERLM_DATA to compare with")
    full = load_data(Path(root, "dbpedia")).taxonomy
    assert all(full.path(full.index(path)) == path for path in by_leaf)


def test_each_leaf_has_eight_two_and_two_texts(demo):
    for split, count in {"train": 8, "val": 2, "test": 2}.items():
        counts = Counter(paths[0] for paths in demo.split(split).paths)
        assert set(counts.values()) == {count}


def test_texts_are_unique_and_of_readable_length(by_leaf):
    texts = [text for of_leaf in by_leaf.values() for text in of_leaf]
    assert len({text.casefold() for text in texts}) == len(texts)
    for text in texts:
        assert 15 <= len(text.split()) <= 60, text
        assert text == text.strip()
        assert "\n" not in text


def test_most_texts_do_not_give_their_leaf_away(by_leaf):
    for path, texts in by_leaf.items():
        words = re.findall(r"[A-Z][a-z]+|[A-Z]+(?![a-z])", path[-1])
        name = re.compile(r"\b" + r"\s*".join(map(re.escape, words)), re.IGNORECASE)
        assert sum(bool(name.search(text)) for text in texts) <= len(texts) / 3, path


def test_no_template_with_names_swapped_in(by_leaf):
    """No five words in a row occur in more than two texts of a leaf; openings differ as well."""
    for path, texts in by_leaf.items():
        grams = Counter()
        for text in texts:
            words = re.findall(r"\w+", text.lower())
            grams.update({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
        assert max(grams.values()) <= 2, path
        openings = Counter(" ".join(text.split()[:2]).lower() for text in texts)
        assert max(openings.values()) <= 2, path
