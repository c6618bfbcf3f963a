"""The few closed lists of English that names and speech tags are read by."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAYING = _words(
    "acknowledged added adding addressed adds admitted affirmed agreed announced answered answering answers argued "
    "asked asking asks assured bawled began begged begin burst called cautioned challenged chuckled coaxed commanded "
    "commented complained conceded concluded confessed contended continued continues corrected countered cried cries "
    "croaked crying declared demanded drawled echoed ejaculated enquired exclaimed exclaiming exclaims explained "
    "faltered finished gasped groaned growled grumbled hinted hissed implored inquired insisted interposed "
    "interrupted joked lamented laughed lied moaned mumbled murmured mused muttered nodded objected observed offered "
    "ordered panted persisted pleaded proceeded promised pronounced protested pursued put queried quoth read recited "
    "reflected rejoined related remarked reminded repeated repeats replied replies replying responded resumed "
    "retorted returned roared said sang say saying says screamed shouted shrieked sighed snapped sneered sobbed "
    "speaking spoke squeaked stammered stated stuttered suggested teased thought thundered told urged ventured "
    "vociferated volunteered wailed warned went whimpered whined whispered wondered wrote yelled "
)
"""Forms of verbs of saying."""
MALE_TITLES = _words(
    "Baron Brother Captain Colonel Count Don Duke Father General Grandfather Herr Inspector King Lieutenant Lord M "
    "Major Master Monsieur Mr Prince Rabbi Rev Reverend Sergeant Señor Signor Sir Squire Uncle "
)
"""Titles of men, without their full stop."""
FEMALE_TITLES = _words(
    "Aunt Baroness Countess Dame Duchess Frau Fraulein Grandmother Lady Madam Madame Mademoiselle Miss Mlle Mme "
    "Mother Mrs Ms Nurse Princess Queen Signora Sister "
)
"""Titles of women."""
OTHER_TITLES = _words("Dr Doctor Judge Prof Professor Saint")
"""Titles of either."""
TITLES = MALE_TITLES | FEMALE_TITLES | OTHER_TITLES
"""All of them."""
MALE_NOUNS = _words(
    "boy bridegroom brother butler captain clergyman coachman count curate driver father fellow footman gentleman "
    "grandfather guy host husband king lad landlord lord magistrate man master monk nephew officer papa policeman "
    "priest prince sailor sergeant sir soldier son uncle waiter widower "
)
"""Nouns for men."""
FEMALE_NOUNS = _words(
    "aunt bride countess daughter girl governess grandmother hostess housekeeper housemaid lady ladyship landlady "
    "lass maid mamma mistress mother niece nun nurse princess queen sister waitress widow wife woman "
)
"""Nouns for women."""
NICKNAMES = {
    "Abby": "Abigail", "Alec": "Alexander", "Andy": "Andrew", "Becky": "Rebecca", "Ben": "Benjamin",
    "Bess": "Elizabeth", "Betsy": "Elizabeth", "Betty": "Elizabeth", "Bill": "William", "Billy": "William",
    "Bob": "Robert", "Charley": "Charles", "Charlie": "Charles", "Dan": "Daniel", "Dick": "Richard",
    "Dolly": "Dorothy", "Ed": "Edward", "Eliza": "Elizabeth", "Ellie": "Eleanor", "Fanny": "Frances",
    "Fred": "Frederick", "Freddy": "Frederick", "Georgie": "George", "Harry": "Henry", "Jack": "John",
    "Jem": "James", "Jenny": "Jane", "Jim": "James", "Jimmy": "James", "Joe": "Joseph", "Johnny": "John",
    "Kate": "Katherine", "Kitty": "Catherine", "Lizzie": "Elizabeth", "Lizzy": "Elizabeth", "Lottie": "Charlotte",
    "Maggie": "Margaret", "Meg": "Margaret", "Mike": "Michael", "Molly": "Mary", "Nat": "Nathaniel",
    "Ned": "Edward", "Nell": "Ellen", "Nelly": "Ellen", "Peggy": "Margaret", "Polly": "Mary", "Sally": "Sarah",
    "Sam": "Samuel", "Sophy": "Sophia", "Susy": "Susan", "Ted": "Edward", "Tim": "Timothy", "Tom": "Thomas",
    "Tommy": "Thomas", "Will": "William", "Willy": "William",
}  # fmt: skip
"""Short forms of given names."""
NO_NAMES = _words(
    "A Abbey Ah Alas All American An And Any April Are As At August Aunt Bible Book But By Can Captain Castle Chapter "
    "Christian Christmas Church City College Colonel Could Court Dear December Devil Did Do Dr Dutch East Easter "
    "England English Europe Everybody Farewell Father February For France French Friday From German Germany God Good "
    "Great Greek Hall He Heaven Heavens Her Here Highness His Honour Hotel House How I If In Indeed Indian Inn Irish "
    "Is It Italian Italy January July June Lady Lake Latin Let Letter Lodge London Lord Ma'am Madam Majesty Mama "
    "Mamma March May Michaelmas Might Miss Monday Mont Mother Mount Mr Mrs Ms Must My Nature Never No Nobody North "
    "Not Nothing November Now O Ocean October Of Oh Old On One Our Papa Paris Park Parliament Part Poor Pray "
    "Providence River Road Satan Saturday Scotch Sea September Shall She Should Sir So Some Somebody South Spanish "
    "Square Street Sunday That The Their Then There These They This Those Thursday To Town Tuesday Turkish Two Uncle "
    "University Volume Was We Wednesday Well Were West What When Where Who Why Will With Would Yes You Young Your "
)
"""Capitalized words that name nobody by themselves."""
VAGUE = _words("boy former gentleman girl lady latter man other others two woman ")
"""Nouns that seldom tell somebody from somebody else who has a name."""
FAMILY = {
    "wife": "F", "husband": "M", "mother": "F", "father": "M", "sister": "F", "brother": "M", "daughter": "F",
    "son": "M", "aunt": "F", "uncle": "M", "niece": "F", "nephew": "M", "lady": "F", "mamma": "F", "papa": "M",
    "grandmother": "F", "grandfather": "M", "cousin": "", "friend": "", "companion": "", "ladyship": "F",
    "host": "M", "hostess": "F", "lordship": "M", "partner": "", "visitor": "", "lover": "M",
}  # fmt: skip
"""Words for somebody by a tie to another, with the gender that they tell."""
