"""The hand-written parts of the demo catalogue: subjects with their moods, and the forms a subject can take.

A subject's mood (valence and arousal in [-1, 1], and an emotion) is its writer's judgement, not a measurement. A form
shifts it: a game has more arousal than a picture. Nothing is about a real person or place.
"""

from __future__ import annotations

from typing import NamedTuple


class Subject(NamedTuple):
    """What an item is about; `name` starts in lower case, `scene` is one or two full sentences."""

    name: str
    emotion: str
    valence: float
    arousal: float
    tags: tuple[str, ...]
    scene: str


class Form(NamedTuple):
    """What kind of item it is; `patterns` pair a title with its text, `paces` are for low, middle and high arousal.

    Patterns take {Title} (at the start), {title} (elsewhere), {name}, {scene} and {pace}.
    """

    kind: str
    valence: float
    arousal: float
    patterns: tuple[tuple[str, str], ...]
    paces: tuple[str, str, str]


SUBJECTS: tuple[Subject, ...] = (
    Subject("the lantern parade", "happiness", 0.8, 0.6, ("night", "crowd", "light"),
            "A whole street walks uphill behind paper fish and brass bands, and nobody wants to go home first."),
    Subject("the bakery at sunrise", "happiness", 0.7, 0.0, ("food", "morning", "town"),
            "The first loaves come out while the street is still blue, and the end piece goes to whoever is early."),
    Subject("the rooftop dance", "happiness", 0.85, 0.8, ("music", "city", "summer"),
            "Somebody carries a speaker up six floors, and by midnight three buildings are dancing to the same song."),
    Subject("the puppy's first snow", "happiness", 0.9, 0.5, ("animals", "winter", "home"),
            "It barks at every flake, falls over twice, and then discovers running."),
    Subject("the harvest picnic", "happiness", 0.7, 0.15, ("food", "autumn", "family"),
            "Long tables stand between the apple trees, and every dish has a story that gets longer each year."),
    Subject("the kite festival", "happiness", 0.75, 0.45, ("sky", "spring", "children"),
            "Two hundred kites pull at the same wind, and a very small girl holds the largest one."),
    Subject("the street football final", "happiness", 0.65, 0.85, ("sport", "city", "crowd"),
            "Jumpers for goalposts, a borrowed ball, and a last-minute header that the whole block will talk about."),
    Subject("the lighthouse keeper", "trust", 0.4, -0.4, ("sea", "night", "solitude"),
            "Every evening the keeper answers one letter from a child who wonders what the light is for."),
    Subject("the grandmother's workshop", "trust", 0.55, -0.3, ("craft", "family", "home"),
            "She repairs clocks, kites and grudges, and charges for none of them."),
    Subject("the village choir", "trust", 0.6, 0.0, ("music", "town", "crowd"),
            "Half of them can't read music, all of them know when to breathe."),
    Subject("the old ferryman", "trust", 0.4, -0.5, ("river", "travel", "solitude"),
            "He has crossed the same water forty thousand times and still looks up at the heron."),
    Subject("the nurses' garden", "trust", 0.5, -0.45, ("garden", "care", "city"),
            "Behind the ward there are tomatoes, a bench, and ten minutes that belong to nobody else."),
    Subject("the mountain rescue team", "trust", 0.3, 0.35, ("mountains", "winter", "care"),
            "They rope up without a word, because each of them knows what the others will do."),
    Subject("the train to the coast", "anticipation", 0.5, 0.3, ("travel", "sea", "summer"),
            "The windows are open, the fields run out, and everyone is waiting for the first line of blue."),
    Subject("the launch countdown", "anticipation", 0.4, 0.8, ("space", "science", "crowd"),
            "Ten engineers hold their breath over a small grey box that took them nine years."),
    Subject("the unopened letter", "anticipation", 0.2, 0.25, ("home", "mystery", "paper"),
            "It has lain on the table since Tuesday, and the handwriting is one you know."),
    Subject("the eve of the fair", "anticipation", 0.55, 0.4, ("town", "night", "crowd"),
            "The wheel stands still and unlit, and the whole town pretends not to look at it."),
    Subject("the seed vault", "anticipation", 0.3, -0.15, ("science", "winter", "garden"),
            "Behind three doors of ice a million summers are waiting for somebody to need them."),
    Subject("the curtain before the play", "anticipation", 0.45, 0.55, ("theatre", "crowd", "night"),
            "The house lights fall, a shoe scrapes behind the velvet, and the first word is a second away."),
    Subject("the fortune machine", "surprise", 0.4, 0.5, ("city", "mystery", "play"),
            "It stands between two snack machines and has been right about everything since spring."),
    Subject("the whale under the bridge", "surprise", 0.45, 0.55, ("animals", "river", "city"),
            "It came up with the tide at seven in the morning, and for an hour nobody was late for anything."),
    Subject("the upside-down library", "surprise", 0.35, 0.3, ("books", "mystery", "play"),
            "The shelves hang from the ceiling, the ladders lead down, and the index is in the form of a joke."),
    Subject("the sudden hailstorm", "surprise", -0.05, 0.7, ("weather", "summer", "city"),
            "The market is dry, then white, then laughing under one very small awning."),
    Subject("the cat who became mayor", "surprise", 0.6, 0.4, ("animals", "town", "play"),
            "It ran unopposed, sleeps through every meeting, and the buses have never been so punctual."),
    Subject("the parcel from nowhere", "surprise", 0.1, 0.45, ("home", "mystery", "play"),
            "There is no sender, no stamp, and something inside is ticking in three-four time."),
    Subject("the laundromat at noon", "neutral", 0.0, -0.4, ("city", "everyday", "solitude"),
            "Seven drums turn, one radio talks, and a shirt button clicks round and round."),
    Subject("the bus depot", "neutral", 0.0, -0.1, ("city", "travel", "everyday"),
            "Lines one to forty come home, are swept, are counted, and leave again."),
    Subject("the paper map", "neutral", 0.1, -0.3, ("travel", "paper", "everyday"),
            "It never folds back the way it came, and it still knows the footpath behind the mill."),
    Subject("the tide table", "neutral", 0.1, -0.5, ("sea", "paper", "science"),
            "High at 6:14, low at 12:31, high at 18:40, and the boats believe every word."),
    Subject("the corner hardware store", "neutral", 0.1, -0.2, ("town", "craft", "everyday"),
            "There are four hundred small drawers, and the owner opens the right one without looking."),
    Subject("the office window", "neutral", -0.05, -0.25, ("city", "everyday", "weather"),
            "Clouds go by at the speed of a slow afternoon, and someone waters the same plant."),
    Subject("the moss garden", "trust", 0.35, -0.8, ("garden", "quiet", "rain"),
            "Nothing happens here for eighty years at a time, and it is all in green."),
    Subject("the slow river", "trust", 0.4, -0.75, ("river", "quiet", "summer"),
            "The boat drifts, the oars are in, and the bank passes like a page being turned."),
    Subject("the rain on the tent", "neutral", 0.3, -0.7, ("rain", "quiet", "night"),
            "The drops are loud and the sleeping bag is warm, and there is nowhere to be until it stops."),
    Subject("the mountain tea house", "trust", 0.45, -0.65, ("mountains", "quiet", "food"),
            "Steam, a wooden bowl, and a window that is mostly cloud."),
    Subject("the last ferry home", "sadness", -0.5, -0.4, ("sea", "night", "travel"),
            "The harbour lights get smaller, and the seat beside the window stays empty."),
    Subject("the empty chair at supper", "sadness", -0.75, -0.5, ("family", "home", "quiet"),
            "They still set five places, and nobody has said a word about it since March."),
    Subject("the goodbye on platform nine", "sadness", -0.6, -0.15, ("travel", "city", "family"),
            "The doors close on half a sentence, and the train takes the other half with it."),
    Subject("the closed cinema", "sadness", -0.4, -0.5, ("town", "night", "theatre"),
            "The letters over the door have spelled the same half title for six winters."),
    Subject("the wilted rose garden", "sadness", -0.5, -0.65, ("garden", "autumn", "quiet"),
            "The gardener is gone, and the gate has begun to sing in the wind."),
    Subject("the unanswered phone", "sadness", -0.55, 0.05, ("home", "city", "solitude"),
            "It rings in a flat where the post has piled up, and then it stops."),
    Subject("the house that hums at three", "fear", -0.6, 0.6, ("night", "home", "mystery"),
            "The sound comes from inside the wall, and last night it learned the tune you whistle."),
    Subject("the road in the fog", "fear", -0.4, 0.4, ("travel", "night", "weather"),
            "The headlights reach four metres, and something has been keeping pace just beyond them."),
    Subject("the lift between floors", "fear", -0.55, 0.7, ("city", "mystery", "everyday"),
            "The display counts down past zero, and the doors are in no hurry."),
    Subject("the flooded mine", "fear", -0.7, 0.65, ("mountains", "water", "mystery"),
            "Six lamps went in, the water is rising, and seven are coming back along the tunnel."),
    Subject("the eyes in the attic", "fear", -0.65, 0.8, ("home", "night", "animals"),
            "There are two, then four, and the ladder has begun to creak from above."),
    Subject("the slammed door", "anger", -0.55, 0.75, ("home", "family", "city"),
            "Every word that should have stayed inside is now out on the stairs for the neighbours to hear."),
    Subject("the rigged match", "anger", -0.6, 0.65, ("sport", "crowd", "city"),
            "Everyone in the stadium saw the referee look away, and forty thousand people are on their feet."),
    Subject("the August traffic jam", "anger", -0.4, 0.45, ("city", "summer", "everyday"),
            "Nine lanes, no shade, and a horn that has been stuck since the tunnel."),
    Subject("the burned manuscript", "anger", -0.7, 0.5, ("books", "night", "paper"),
            "Eleven years of work went into the stove because of one lie told at dinner."),
    Subject("the swamp behind the factory", "disgust", -0.6, 0.15, ("water", "city", "animals"),
            "It bubbles after rain, smells of eggs and paint, and something with too many legs has moved in."),
    Subject("the forgotten fridge", "disgust", -0.45, 0.3, ("food", "home", "everyday"),
            "Nobody has opened it since the summer before last, and the light inside is green."),
    Subject("the rat king's feast", "disgust", -0.6, 0.5, ("animals", "night", "food"),
            "Under the opera house a long table is laid with everything the city has thrown away."),
)  # fmt: skip

FORMS: tuple[Form, ...] = (
    Form("story", 0.0, 0.0,
         (("{Title}", "A short story about {name}. {scene} {pace}"),
          ("{Title}: A Story", "{scene} A story in five short chapters. {pace}"),
          ("What Became of {title}", "A story that begins where others end. {scene} {pace}")),
         ("Best read slowly, with something warm to drink.", "About eight minutes to read.",
          "You will want to read it in one breath.")),
    Form("music", 0.05, 0.05,
         (("Music for {title}", "An instrumental piece inspired by {name}. {scene} {pace}"),
          ("{Title}, for Piano and Strings", "Four minutes of music. {scene} {pace}"),
          ("Variations on {title}", "One theme in five variations, after {name}. {scene} {pace}")),
         ("Long notes, no drums.", "A steady pulse and a tune to hum.", "Fast and loud from the first bar.")),
    Form("picture", 0.05, -0.1,
         (("{Title} in Watercolour", "A generated watercolour of {name}. {scene} {pace}"),
          ("{Title}, Seen from Above", "A generated picture from a bird's point of view. {scene} {pace}"),
          ("{Title} in Three Colours", "A generated print of {name} in three colours. {scene} {pace}")),
         ("Wide empty spaces and muted tones.", "Warm light and a lot of small detail.",
          "Bold strokes and strong contrast.")),
    Form("game", 0.1, 0.2,
         (("{Title}: The Game", "A small browser game about {name}. {scene} {pace}"),
          ("The Puzzle of {title}", "A game of small discoveries. {scene} {pace}"),
          ("A Day with {title}", "Play your way through {name}. {scene} {pace}")),
         ("No timer and no score, only things to find.", "Twelve short levels with gentle puzzles.",
          "A race against the clock, best with headphones.")),
    Form("guide", 0.1, -0.1,
         (("How to Draw {title}", "A step-by-step guide to drawing {name}. {scene} {pace}"),
          ("Write about {title}", "A writing exercise for one evening. {scene} {pace}"),
          ("{Title} as a Paper Model", "Fold and glue your own version of {name}. {scene} {pace}")),
         ("Ten quiet steps, no experience needed.", "Six steps with pictures for each.",
          "Quick exercises, two minutes each.")),
    Form("video", 0.0, 0.1,
         (("One Minute with {title}", "A generated video about {name}, without a word of dialogue. {scene} {pace}"),
          ("{Title}, a Short Film", "A generated short film. {scene} {pace}"),
          ("Filming {title}", "How a generated film about {name} was made, and the film itself. {scene} {pace}")),
         ("One long shot, hardly a cut.", "Bright pictures and a calm voice-over.",
          "Quick cuts and a pounding score.")),
    Form("poem", 0.0, -0.15,
         (("Nine Lines for {title}", "Nine lines without a rhyme. {scene} {pace}"),
          ("Ode to {title}", "A poem in praise of {name}. {scene} {pace}"),
          ("{Title}, in Verse", "A short poem about {name}. {scene} {pace}")),
         ("It ends almost in a whisper.", "To be read aloud to a friend.", "It gets louder with every line.")),
)  # fmt: skip
