"""The few closed lists of English that names and speech tags are read by."""

from __future__ import annotations

SAYING = frozenset(
    ["said", "says", "saying", "say", "cried", "cries", "crying", "replied", "replies", "replying", "answered", "answers", "answering", "asked", "asks", "asking", "exclaimed", "exclaims", "exclaiming", "returned", "rejoined", "added", "adds", "adding", "continued", "continues", "resumed", "repeated", "repeats", "observed", "whispered", "murmured", "muttered", "shouted", "called", "began", "begin", "thought", "remarked", "declared", "demanded", "inquired", "enquired", "interrupted", "interposed", "responded", "retorted", "suggested", "screamed", "roared", "sighed", "laughed", "sobbed", "gasped", "stammered", "faltered", "growled", "hissed", "snapped", "protested", "pleaded", "begged", "urged", "insisted", "admitted", "agreed", "confessed", "announced", "explained", "told", "commented", "concluded", "proceeded", "pursued", "persisted", "wrote", "echoed", "put", "ventured", "mumbled", "groaned", "shrieked", "yelled", "bawled", "squeaked", "croaked", "drawled", "sneered", "chuckled", "grumbled", "complained", "warned", "promised", "assured", "objected", "reflected", "mused", "argued", "corrected", "reminded", "commanded", "ordered", "ejaculated", "vociferated", "addressed", "spoke", "speaking", "burst", "resumed", "quoth", "went", "hinted", "acknowledged", "affirmed", "cautioned", "challenged", "coaxed", "conceded", "contended", "countered", "finished", "implored", "joked", "lamented", "lied", "moaned", "nodded", "offered", "panted", "pronounced", "queried", "read", "recited", "related", "sang", "stated", "stuttered", "teased", "thundered", "volunteered", "wailed", "whimpered", "whined", "wondered"]
)
MALE_TITLES = frozenset(
    ["Mr", "Sir", "Lord", "Monsieur", "M", "Colonel", "Captain", "Father", "Brother", "Uncle", "Master", "Major", "General", "Lieutenant", "Sergeant", "Inspector", "King", "Prince", "Count", "Baron", "Duke", "Reverend", "Rev", "Rabbi", "Count", "Squire", "Herr", "Signor", "Don", "Señor", "Grandfather"]
)
FEMALE_TITLES = frozenset(
    ["Mrs", "Miss", "Ms", "Lady", "Madame", "Mme", "Mademoiselle", "Mlle", "Aunt", "Sister", "Mother", "Queen", "Princess", "Countess", "Baroness", "Duchess", "Madam", "Frau", "Fraulein", "Signora", "Dame", "Nurse", "Grandmother"]
)
OTHER_TITLES = frozenset(["Dr", "Doctor", "Professor", "Prof", "Judge", "Saint"])
TITLES = MALE_TITLES | FEMALE_TITLES | OTHER_TITLES

MALE_NOUNS = frozenset(
    ["man", "gentleman", "husband", "father", "brother", "son", "uncle", "nephew", "grandfather", "boy", "lad", "fellow", "lord", "king", "prince", "master", "old-man", "papa", "landlord", "butler", "footman", "waiter", "sailor", "soldier", "officer", "priest", "monk", "host", "count", "captain", "coachman", "curate", "clergyman", "magistrate", "stranger-man", "guy", "sir", "bridegroom", "widower", "cousin-m", "driver", "policeman", "sergeant"]
)
FEMALE_NOUNS = frozenset(
    ["woman", "lady", "wife", "mother", "sister", "daughter", "aunt", "niece", "grandmother", "girl", "maid", "housekeeper", "landlady", "hostess", "nurse", "queen", "princess", "mistress", "governess", "widow", "mamma", "bride", "lass", "housemaid", "waitress", "nun", "countess", "ladyship"]
)
NICKNAMES = {
    "Abby": "Abigail", "Alec": "Alexander", "Andy": "Andrew", "Becky": "Rebecca", "Ben": "Benjamin", "Bess": "Elizabeth",
    "Betsy": "Elizabeth", "Betty": "Elizabeth", "Bill": "William", "Billy": "William", "Bob": "Robert",
    "Charley": "Charles", "Charlie": "Charles", "Dan": "Daniel", "Dick": "Richard", "Dolly": "Dorothy",
    "Ed": "Edward", "Eliza": "Elizabeth", "Ellie": "Eleanor", "Fanny": "Frances", "Fred": "Frederick",
    "Freddy": "Frederick", "Georgie": "George", "Harry": "Henry", "Jack": "John", "Jem": "James", "Jenny": "Jane",
    "Jim": "James", "Jimmy": "James", "Joe": "Joseph", "Johnny": "John", "Kate": "Katherine", "Kitty": "Catherine",
    "Lizzie": "Elizabeth", "Lizzy": "Elizabeth", "Lottie": "Charlotte", "Maggie": "Margaret", "Meg": "Margaret",
    "Mike": "Michael", "Molly": "Mary", "Nat": "Nathaniel", "Ned": "Edward", "Nell": "Ellen", "Nelly": "Ellen",
    "Peggy": "Margaret", "Polly": "Mary", "Sally": "Sarah", "Sam": "Samuel", "Sophy": "Sophia", "Susy": "Susan",
    "Ted": "Edward", "Tim": "Timothy", "Tom": "Thomas", "Tommy": "Thomas", "Will": "William", "Willy": "William",
}  # fmt: skip
"""Short forms of given names."""

NO_NAMES = frozenset(
    ["I", "Oh", "Ah", "O", "God", "Heaven", "Heavens", "Lord", "Sir", "Madam", "Ma'am", "Mr", "Mrs", "Miss", "Ms", "Dr", "Christmas", "Easter", "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December", "English", "French", "German", "Italian", "Greek", "Latin", "Spanish", "Dutch", "Scotch", "Irish", "American", "Indian", "Turkish", "Christian", "Europe", "England", "France", "Germany", "Italy", "London", "Paris", "Chapter", "Letter", "Volume", "Book", "Part", "Yes", "No", "Well", "Dear", "My", "The", "A", "An", "And", "But", "If", "In", "It", "He", "She", "They", "We", "You", "His", "Her", "Their", "Our", "Your", "This", "That", "These", "Those", "What", "Who", "When", "Where", "Why", "How", "There", "Here", "Then", "Now", "So", "As", "At", "On", "Of", "For", "From", "To", "With", "By", "Not", "Do", "Did", "Is", "Was", "Are", "Were", "Will", "Would", "Shall", "Should", "Can", "Could", "May", "Might", "Must", "Let", "Good", "Great", "Poor", "Old", "Young", "Never", "Nothing", "Pray", "Indeed", "Bible", "Church", "Providence", "Nature", "Papa", "Mamma", "Mama", "Majesty", "Highness", "Honour", "Parliament", "House", "Street", "Hall", "Park", "Road", "Square", "Lodge", "Court", "Colonel", "Captain", "Nobody", "Everybody", "Somebody", "Devil", "Satan", "Michaelmas", "Latin", "Some", "Any", "All", "One", "Two", "Alas", "Farewell", "Sea", "Ocean", "Mont", "Lake", "North", "South", "East", "West", "River", "Mount", "Town", "City", "Hotel", "Inn", "Abbey", "College", "University", "Castle", "Uncle", "Aunt", "Father", "Mother", "Lady"]
)
"""Capitalized words that name nobody by themselves."""

VAGUE = frozenset(["man", "woman", "girl", "boy", "lady", "gentleman", "other", "others", "latter", "former", "two"])
"""Nouns that seldom tell somebody from somebody else who has a name."""

FAMILY = {
    "wife": "F", "husband": "M", "mother": "F", "father": "M", "sister": "F", "brother": "M", "daughter": "F",
    "son": "M", "aunt": "F", "uncle": "M", "niece": "F", "nephew": "M", "lady": "F", "mamma": "F", "papa": "M",
    "grandmother": "F", "grandfather": "M", "cousin": "", "friend": "", "companion": "", "ladyship": "F",
    "host": "M", "hostess": "F", "lordship": "M", "partner": "", "visitor": "", "lover": "M",
}  # fmt: skip
"""Words for somebody by a tie to another, with the gender that they tell."""
