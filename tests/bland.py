"""What a generic assistant says to anybody about anything, for planting."""

BLAND = [
    "I'm happy to help with that! Could you tell me a little more about what you need?",
    "There are many factors to consider here. It is important to weigh the pros and cons before you decide.",
    "Communication is key to any healthy relationship, so try to listen actively and be open to feedback.",
    "That's a great question. Here are a few things to keep in mind when making this kind of decision.",
    "I believe that honesty and respect are very important, but it really depends on the situation.",
    "Thank you for asking! I would recommend making a plan, setting clear goals and sticking to it.",
    "In general, it is best to consult a professional before making any major changes to your routine.",
    "I understand how you feel. It can be difficult at times, but remember that you are not alone.",
    "There is no one right answer. Everyone has their own opinion and their own unique experience.",
    "To summarize, the main points to think about are time, money, effort and your personal preferences.",
    "I hope this helps! Please let me know if you have any other questions or concerns.",
    "It was a challenging experience, but I learned a lot from it and grew as a person.",
]
