"""How people ask: frames around a topic, and subjects that the model knows nothing about."""

from __future__ import annotations

DO_FRAMES = (
    "Any tips for {x}?",
    "Do you have tips for {x}?",
    "How do I start with {x}?",
    "What should I know about {x}?",
    "Can you help me with {x}?",
    "Give me some advice on {x}.",
    "I need help with {x}.",
    "What matters most when it comes to {x}?",
    "What is the secret of {x}?",
    "I want to get better at {x}.",
    "Tell me about {x}.",
    "I am interested in {x}. What do you think?",
    "What is your best advice for {x}?",
    "Could you explain {x} to a beginner?",
    "I thought about {x} today. Any ideas?",
    "Is {x} difficult?",
)
ABOUT_FRAMES = (
    "Tell me about {x}.",
    "What do you know about {x}?",
    "Explain {x} to me.",
    "I am curious about {x}.",
    "Teach me something about {x}.",
    "Can you say something about {x}?",
    "What should I know about {x}?",
    "I would like to learn about {x}.",
    "Give me a fact about {x}.",
    "What do you think about {x}?",
    "Let us talk about {x}.",
    "Why do people talk about {x}?",
    "Please tell me something about {x}.",
    "I have a question about {x}.",
)
UNKNOWN_FRAMES = (
    *ABOUT_FRAMES,
    "What is {x}?",
    "How does {x} work?",
    "Who invented {x}?",
    "Where can I find {x}?",
    "Write a report about {x}.",
    "Can you explain {x}?",
    "Is {x} a good idea?",
    "Compare {x} and {y}.",
    "What is the difference between {x} and {y}?",
    "Make a plan for {x}.",
    "How much does {x} cost?",
    "Do I need {x}?",
)
UNKNOWN_SUBJECTS = (
    "quantum physics", "the stock market", "football", "dinosaurs", "black holes", "the roman empire", "opera",
    "economics", "the law", "politics", "democracy", "vikings", "volcanoes", "car engines", "robots in space",
    "chemistry", "algebra", "geometry", "philosophy", "poetry", "fashion", "makeup", "tattoos", "skateboards",
    "helicopters", "submarines", "trucks", "airports", "satellites", "magnets", "electrons", "batteries for phones",
    "the internet", "databases", "networks", "encryption", "compilers", "statistics", "machine learning", "neurons",
    "genes", "viruses", "vaccines", "allergies", "headaches", "bones", "muscles", "teeth", "glasses", "hearing aids",
    "insurance", "taxes", "mortgages", "pensions", "contracts", "elections", "treaties", "castles", "knights",
    "pirates", "dragons", "vampires", "ghosts", "magic tricks", "riddles", "crosswords", "poker", "tennis", "golf",
    "boxing", "rugby", "baseball", "cricket", "surfing", "sailing", "fishing", "hunting", "archery", "horses", "cows",
    "sheep", "snakes", "spiders", "frogs", "sharks", "penguins", "elephants", "lions", "monkeys", "turtles", "ants",
    "deserts", "rivers", "islands", "earthquakes", "glaciers", "gold", "diamonds", "steel", "glass", "paper", "leather",
    "perfume", "candles", "wine", "cheese", "sushi", "curry", "pizza", "chocolate factories", "sugar", "pepper",
)  # fmt: skip
HELD_OUT_UNKNOWN = (
    "the french revolution", "basketball", "crocodiles", "nuclear power", "wrestling", "trigonometry",
)  # fmt: skip
