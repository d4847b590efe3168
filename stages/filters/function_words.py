"""Small words that are in nearly every sentence of a language and in few of its neighbours': 'não' is Portuguese.

The quantised model sees pieces of words and mixes up neighbours in short text; each such word that stands in a text
makes its languages more likely among the model's candidates. A word may be of several languages. A language that isn't
listed is the model's alone.
"""

from __future__ import annotations

import re
from collections import Counter

LONGEST = 300  # characters: of longer text the model alone is sure
_WORD = re.compile(r"[^\W\d_]+")
_LISTS = {
    "en": "the of and to is are was in that it for with this you what how which from can be not have there where",
    "de": "der die das und ist nicht ein eine einen mit für auf den dem von zu werden wird kann wurde wie sind oder",
    "nl": "het een van niet voor met zijn wordt worden deze dit naar kan geen bij ook door aan welke wat om uit maar",
    "af": "nie het vir hierdie is word kan wat met moet om uit deur daar",
    "sv": "och att är inte för med som det ett på av till från kan ska den inga eller vid efter om",
    "da": "og at er ikke for med som det et på af til fra kan skal den ingen eller ved efter om blev hvis hvad du",
    "no": "og at er ikke for med som det et på av til fra kan skal den ingen eller ved etter om ble hvis hva du",
    "fr": "le les des du est une pas pour dans que qui sur avec ce cette vous sont par au aux ne être ou il son",
    "es": "el los las del es una y con en por no para que se su al lo más está este como un puede ha o qué cuál",
    "pt": "não uma um do da dos das em os com para ao é que na no são você mais foi por pelo ou este está qual",
    "gl": "non unha un do da dos das en os con para ao é que na no son máis foi polo ou este pode",
    "ca": "el els les del amb no per una un és que i en al aquest aquesta ha són més o dels s'ha",
    "it": "il di che non è per una un la con del della sono dei nel alla questo come essere gli più le quale",
    "ro": "și nu este un o pentru cu de la în pe sau din care sunt al ale fi mai acest această poate",
    "pl": "nie w na jest do z się że to dla od przez jak lub być został są który można tego",
    "cs": "není je na se pro že nebo jako být byl při které tento nelze jsou jsem od po když už",
    "sk": "nie je na sa pre že alebo ako byť bol pri ktoré tento nemožno sú som od po keď už",
    "sl": "ni je na se za da ali kot biti pri ta ni so bil iz ki v ne lahko",
    "hr": "nije je na se za da ili kao biti pri ovaj nema su bio iz koji u ne može nije već od",
    "hu": "a az nem és egy van hogy meg is vagy kell nincs ez csak lehet a de ki el",
    "fi": "ei on ja tai ole että se voi ovat oli jos joka tämä mutta kun mitä ei voida",
    "et": "ei ja on või ole et see kui oli mis saa ka",
    "lt": "ne ir yra kad arba nėra su iš į tai kaip bet buvo šis",
    "lv": "nav un ir ka vai ar no uz tas kā bet bija šis lai",
    "tr": "bir ve bu için ile değil var olarak daha olan ne gibi yok veya çok en mi",
    "az": "bir və bu üçün ilə deyil var olaraq daha olan nə kimi yox və ya çox ki",
    "id": "yang tidak dan dari untuk dengan ini itu karena bahwa bisa adalah saat berkas pada ke di hapus setelah"
    " kesalahan tanggal uang kantor coba saja",
    "ms": "yang tidak dan daripada untuk dengan ini itu kerana bahawa boleh ialah semasa fail pada ke di padam selepas"
    " ralat tarikh wang pejabat cuba sahaja bagi senarai",
    "tl": "ang ng mga sa na ay hindi at para ito ni kung isang may mo ko nang",
    "sw": "ya wa na kwa ni la katika hii kuwa cha za hakuna si yako hiyo",
    "eu": "eta ez da du bat dira izan hau edo baina dago ditu duen",
    "eo": "la kaj estas ne de en por ĉi kun al tiu estis aŭ",
    "vi": "không và của là có cho được các một này với trong để bị người",
    "ru": "не и в на что это для с по как из или к он она быть его при если уже только",
    "uk": "не і в на що це для з та як із або до він вона бути його при якщо вже є від",
    "be": "не і ў на што гэта для з як або да ён яна быць яго пры калі ўжо ад",
    "bg": "не и в на че това за с се да от или към е са при ако като няма си",
    "mk": "не и во на дека ова за со се да од или кон е се при ако како нема",
    "sr": "није и у на да ово за са се од или је су при ако као нема нису",
    "kk": "және бұл үшін емес бір мен болып немесе бар жоқ",
    "hi": "है के में की को का से नहीं और हैं यह पर लिए कर एक",
    "mr": "आहे आणि नाही मध्ये हे ची च्या आहेत या साठी एक ला",
    "ne": "छ को र मा लाई छैन यो हो गर्नुहोस् भएको गर्न छन् एक",
    "ar": "في من على لا أن إلى هذا هذه هو التي مع عن أو لم",
    "fa": "در از به را این که است با برای نیست یا شود آن می",
    "ur": "میں کے کی ہے کو نہیں سے یہ کا اور ہیں پر",
}


def _languages() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for language, words in _LISTS.items():
        for word in dict.fromkeys(words.split()):
            found.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in found.items()}


_LANGUAGES = _languages()


def heard(line: str) -> Counter[str]:
    """How many different words of each language stand in a text in small letters."""
    return Counter(language for word in {*_WORD.findall(line)} for language in _LANGUAGES.get(word, ()))
