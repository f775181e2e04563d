"""Whether an answer declines the request, or asks for the image or text that it was given.

    Please provide me with the image you would like me to describe.
    I'm sorry, but as a large language model I cannot see images.
    Bitte geben Sie mir das Bild, das ich beschreiben soll.

Only how an answer begins counts, and only in whole phrases that speak of the request itself. A sign
in a picture that reads "Please provide identification" and a caption of a man who says "I cannot
see" are answers. A list of phrases is never complete: it is there so that the usual refusals do not
pass for results, and kept so narrow that results hardly ever pass for refusals: none of 92,582
paragraphs of documentation did (docstrings, READMEs and comments of 16 packages; 2026-11-29).

A translation may itself be such a sentence, because its source is. It has about the length of its
source then, so a translation counts as a refusal only where the lengths are far apart.
"""

from __future__ import annotations

import regex

from jobs.answers.repetition import IDEOGRAPH, LETTER

BEGINNING = 400
"""Characters in which a refusal shows."""
TIMES_AS_LONG = 2.0
"""An answer that is longer or shorter than its source by this is hardly its translation."""

_IMAGE = r"(?:images?|pictures?|photos?|photographs?|drawings?)\b"
_GIVEN = rf"(?:{_IMAGE}|(?:texts?|documents?|sentences?)\b)"
_AN = r"(?:(?:an?|any|the|this|that|these|those|your|attached|uploaded|provided|actual) )*"
_CANNOT = (
    r"(?:i (?:cannot|can't|can not|could not|couldn't|do not have the ability to|don't have the "
    r"ability to|am not programmed to|will not|won't)|(?:i am|i'm) (?:currently |still )?"
    r"(?:unable|not able) to) (?:directly |actually |currently |physically )*"
)
_GIVE = r"(?:provide|share|upload|attach|send|give|show|paste|supply|include)"
_WAS_GIVEN = r"(?:attached|uploaded|provided|included)"

BEFORE = (
    r"(?:i'm|i am) (?:so |very |really |truly )?sorry",
    r"sorry|i apologi[sz]e|my apologies|unfortunately",
    r"okay|ok|sure|certainly|of course|understood|hello|hi",
    r"(?:i'm|i am) ready(?: to help| to describe it| to translate)?",
    r"(?:as|since i am|because i am|since i'm) (?:an?|your)(?: [a-z-]+){0,3} "
    r"(?:ai|assistant|model)",
    r"about that|for (?:the|any) (?:inconvenience|confusion)|but|however",
)
"""What an English refusal may begin with, one after the other."""
ENGLISH = (
    rf"{_CANNOT}(?:see|view|access|open|process|display|look at|analy[sz]e)(?: or [a-z]+)? {_AN}"
    + _IMAGE,
    rf"{_CANNOT}(?:assist|help)(?: you)? with (?:that|this)(?: request| task)?"
    r"(?=[.!?]|$| as | because)",
    rf"{_CANNOT}(?:assist|help)(?: you)? (?:with|in) (?:describing|captioning|translating)",
    rf"{_CANNOT}(?:fulfil|fulfill|complete|comply with|respond to) (?:this|that|your|the) request",
    rf"{_CANNOT}(?:provide|generate|create|write|give you) an? "
    r"(?:description|caption|translation)",
    rf"{_CANNOT}(?:translate|describe|caption) {_AN}{_GIVEN}",
    rf"{_CANNOT}(?:translate|describe|caption|identify) (?:this|that|it|people)\b",
    rf"(?:i do not|i don't) (?:see|have access to) (?:an?|any|the|your) (?:attached )?{_IMAGE}",
    r"(?:please|kindly|(?:could|can|would) you(?: please)?|i need you to) "
    rf"{_GIVE}(?: me)?(?: with)? (?:the|an?|your|some) (?:actual |full )?{_GIVEN}"
    r"(?:(?=[.!?:;,]|$)| (?:that |which )?(?:you|you'd|so|again|first|or|itself)\b"
    r"| to be | for me | with me\b| here\b)",
    rf"you (?:have not|haven't|did not|didn't) {_GIVE}d? {_AN}{_GIVEN}",
    rf"(?:it (?:seems|looks|appears)(?: like| that| as if)? )?(?:you (?:forgot|have forgotten) to "
    rf"{_GIVE} {_AN}{_GIVEN}|there (?:is|was) no (?:{_WAS_GIVEN} {_GIVEN}|{_GIVEN} {_WAS_GIVEN}))",
)
OTHER_LANGUAGES = {
    "de": (
        r"(?:es tut mir leid, (?:aber )?)?ich kann (?:leider )?(?:das|dieses|kein|keine|die) "
        r"(?:bild|bilder|foto|text) (?:nicht )?(?:sehen|öffnen|anzeigen|beschreiben|übersetzen)",
        r"bitte (?:geben|schicken|senden|stellen|laden|teilen|zeigen) sie (?:mir )?(?:bitte )?"
        r"(?:das|den|ein|einen|ihr|ihren) (?:bild|foto|text)\b",
    ),
    "fr": (
        r"(?:je suis désolée?, (?:mais )?)?je ne (?:peux|vois) pas (?:voir |accéder à |décrire )?"
        r"(?:l'image|les images|d'images?|cette image)",
        r"veuillez (?:me )?(?:fournir|envoyer|partager|télécharger|donner) "
        r"(?:l'image|une image|le texte|la photo)",
    ),
    "es": (
        r"(?:lo siento, (?:pero )?)?no puedo (?:ver|acceder a|describir) (?:la |las |una |esta )?"
        r"(?:imagen|imágenes)",
        r"por favor,? (?:proporcion[ae](?:me)?|envía(?:me)?|envíe(?:me)?|compart[ae]|sub[ae]|"
        r"proporcióname|proporcióneme) (?:la imagen|una imagen|el texto|la foto)",
    ),
    "it": (
        r"(?:mi dispiace, (?:ma )?)?non (?:posso|riesco a) (?:vedere|visualizzare|descrivere) "
        r"(?:l'immagine|le immagini|immagini)",
        r"per favore,? (?:forniscimi|fornisci|inviami|invia|carica|condividi) "
        r"(?:l'immagine|un'immagine|il testo|la foto)",
    ),
    "pt": (
        r"(?:desculpe, (?:mas )?)?não (?:consigo|posso) (?:ver|visualizar|acessar|descrever) "
        r"(?:a |as |esta )?(?:imagem|imagens)",
        r"por favor,? (?:forneça|envie|compartilhe|carregue)(?:-me)? "
        r"(?:a imagem|uma imagem|o texto)",
    ),
    "nl": (
        r"(?:het spijt me, (?:maar )?)?ik kan (?:de |geen |deze )?(?:afbeelding(?:en)?|foto's?) "
        r"(?:niet )?(?:zien|bekijken|openen)",
    ),
    "ru": (
        r"(?:извините, (?:но )?|к сожалению, )?я не (?:могу|вижу) "
        r"(?:видеть |увидеть |просмотреть )?(?:изображени[ея]|картинк[уи]|фотографи[юи])",
        r"пожалуйста, (?:предоставьте|пришлите|загрузите|отправьте) (?:мне )?"
        r"(?:изображение|текст|фотографию)",
    ),
    "pl": (r"(?:przepraszam, (?:ale )?)?nie mogę (?:zobaczyć|wyświetlić) (?:obrazu|obrazów)",),
    "zh": (
        r"(?:很?抱歉|对不起)?[,，。]?我(?:无法|不能|看不到)(?:查看|看到|访问|打开|描述)?"
        r"(?:这张|该|您的)?(?:图片|图像|照片)",
        r"请(?:您)?(?:提供|上传|发送)(?:给我)?[^。！？\n]{0,12}?(?:图片|图像|照片|文本)",
    ),
    "ja": (
        r"(?:申し訳(?:ありません|ございません)が?[、。]?)?(?:私は)?画像を(?:見る|表示する|確認する)"
        r"ことが?でき(?:ません|ない)",
        r"画像を(?:提供|アップロード|共有|送信)して(?:ください|下さい)",
    ),
    "ko": (
        r"(?:죄송(?:합니다|하지만)[.,]? ?)?(?:저는 )?이미지를 (?:볼|확인할) 수 (?:없습니다|없어요)",
        r"이미지를 (?:제공|업로드|공유)해 ?(?:주세요|주십시오)",
    ),
}
_MARKS = r"[\s*_\"'“”„«»>-]*"
_BEGINNING = rf"(?:(?:{'|'.join(BEFORE)})[\s,.!:;–—-]*)*"
_OTHERS = "|".join(phrase for phrases in OTHER_LANGUAGES.values() for phrase in phrases)
REFUSAL = regex.compile(rf"{_MARKS}(?:{_BEGINNING}(?:{'|'.join(ENGLISH)})|{_OTHERS})")


def is_refusal(answer: str, source: str | None = None) -> bool:
    """Whether an answer is none: it declines, or asks for what it was given.

    Args:
        answer: The answer.
        source: The text that it translates; None where it describes something.
    """
    if source is not None and not _is_of_another_length(answer, source):
        return False
    beginning = answer[:BEGINNING].replace("’", "'").casefold()
    return REFUSAL.match(" ".join(beginning.split())) is not None


def _is_of_another_length(answer: str, source: str) -> bool:
    shorter, longer = sorted(map(_length, (answer, source)))
    return longer > TIMES_AS_LONG * shorter


def _length(text: str) -> int:
    """Letters of a text; an ideograph or a syllable says as much as three."""
    return len(LETTER.findall(text)) + 2 * len(IDEOGRAPH.findall(text))
