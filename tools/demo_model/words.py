"""Common words of prompts that do not describe the demo data set: captions contain some, so that they are ignored."""

__all__ = ["COMMON_WORDS"]

_WORDS = """
16k 1970s 1980s 1990s 2d 35mm 3d 4k 50mm 70s 80s 85mm 8k 90s a above abstract accessories accessory accurate across
acrylic action active actor actress additional adult advertisement advertising aesthetic affordable african after
afternoon again against agency ai air airport all almost alone along already always amateur amazing ambient american
among an analog analogue anatomically anatomy and angel angle anime ankle anniversary another antique any aperture
app apparel apple architecture are around art article artificial artisan artisanal artist artstation artwork as
asian aspect at athlete athletic atmosphere attractive authentic author autumn available avatar award award-winning
awesome back backlight backlit backstage badge baggy balance balanced banana banner bar based basic bathroom be
beach bear beautiful beautifully bed bedroom bee before behind below belt belted beside best between bicycle big
bike bird birthday blank blur blurred blurry boat body bohemian boho bokeh bold bonus book both bottle bottom
boutique bow box brand branded bread breathable brick bridge bright brightly brightness brilliant brim british brush
brushstrokes building bush business busy butterfly button buttoned buttons buyer by cafe cake calendar calligraphy
calm camera campaign candid canvas caption captured car card carefully cartoon cashmere castle casual cat catalog
catalogue catwalk celebration center centered centre centred century ceramic ceremony certain cg cgi chain chair
charcoal charming cheap cheerful chest chic chiffon chinese christmas church cinematic circle city classic classical
clay clean clear clearly client clip clipart clock close close-up closeup clothes clothing cloud clouds coffee cold
collage collar collared collection college color colored colorful colour coloured colourful comfortable comfy comic
commercial common company completely composition computer concept concert concrete confident contemporary contour
contrast cool copy copyspace corduroy corner corners correct cosy cotton country couple couture cover cozy craft
crafted craftsmanship crayon creased create created creator crisp crop cropped crowded crumpled crystal cuff cuffs
cup curve curved curves curvy custom customer customized cut-out cute cutout cyberpunk daily daisy dancer dancing
dark day daylight dazzling decade deco decorated decorative deep deeply deer default definition delicate demo denim
depict depicted depicting depth design designed designer desk detail detailed details diamond diary different
diffuse diffused diffusion digital dim disco display displayed displaying distant doctor dog doll door double down
draft dramatic draped draw drawing dreamlike dreamy dressed dressing dslr dynamic e-commerce each early earth easter
eastern eco ecommerce edge edges edgy edition editorial eight either elaborate elderly elegant elephant embroidered
embroidery empty energetic engine engineer english entirely epic essential ethereal ethnic european evening evenly
event every everyday exact example excellent exceptionally exclusive expensive expert exposure expression exquisite
exterior extra extremely eye eye-level eyes f1.8 f2.8 face facial faint fairy fall falling false family famous
fantasy far fashion fashionable faux featured featuring feel feeling feet festival few field figurine fill film
final fine finely finger fingers finished fire first fish fitted fitting five flash flat flawless fleece floating
floor flower flowers fluffy flying focus focused folded folk font foot for foreground forest formal four fox frame
framed framing free french fresco fresh friend friends from fruit full full-body fullbody fully fun funny fur furry
futuristic fuzzy gallery garden garment garments gaze gem general generate generated generic gentle gently geometric
geometry german gesture giant give glass global glossy glow glowing good gorgeous gothic gouache graceful gradient
graffiti grand graphic grass great group gym hair half halloween hand hand-drawn handcrafted handmade hands handsome
handwriting hanger hanging happy hd hdr head heading headshot heavily heavy hem here hero heroic heroine high
high-waisted highlight highlights highly hiking hip hip-hop hiphop hips holiday home homemade hook horizon
horizontal horse hot hotel hour house hovering hue huge human humans hung hyper hyperrealistic icon iconic idea
ideal illustration illustrator image imagine impressionism impressive in in-stock incredibly indian indoor indoors
informal ink inner insanely inspired intense interior international intimate into intricate invitation ironed is
island isolated isometric it italian item its japanese jazz jersey jewelry journal joyful jumping just key kitchen
knee knit knitted knot korean label lace laces laid lake lamp landscape laptop large last late later laughing
layered leaf leaning least leather leaves leg legs length lens less letter level levitating library lifelike light
light-hearted lighting lightly lights lightweight like lily limited line lineart lined linen lines lining lion lips
listing lit little lively local logo lonely long look lookbook looking loose loud lovely low lower luminous
luxurious luxury lying macro made magazine magic magical magnificent main majestic make maker mannequin many marble
marker market marketing masterpiece material matte maxi mega megapixel mesh metal metallic middle middle-aged
midground midi mild mini minimal minimalist minimalistic minute mirror mirrorless mobile mock-up mockup model modern
month monumental mood moody moon more morning mosaic most mostly motif motion mountain mountains mouth movement
movie moving much mural museum musician mysterious mystical narrative natural near nearly neatly neck need needle
neon network neural neutral never new newspaper next nice nicely night nine no noon nordic normal northern nose
nostalgic not notebook now number nurse nylon object ocean of off office often oil old on one online only onto
optimal or ordinary organic origami original ornament other out outdoor outdoors outer outfit outline outlined
outlines outstanding over overexposed overhead oversized own package packshot painter painting pair palace palette
paper papercut park partially particular partly party pastel patch path pattern patterned peaceful pearl pen pencil
people perfect perfectly personalized perspective phone photo photograph photographer photographic photography
photorealistic picture piece pin pixel pixelated plain plane plant plants plastic plate player playful please
pleated plus plush pocket pockets polished polyester pop popular portrait pose posed posing poster powerful precise
premium presented presenting press pretty preview previous price primary print printed printing pro produce product
professional prompt proper properly proportion proportional proportions prototype proud pure quality quiet quilted
quirky quite rabbit rack radiant rain rainy rare ratio raw ready real realistic really recycled refined regular
relaxed remarkably renaissance render rendering res resolution restaurant retail retro ribbon rich richly rim ring
river road rock romantic room rope rough round rounded ruffled runner running runway rural sale same sample satin
saturated saturation scale scandinavian scene school sculpture sea seam seamless seams season seasonal second
secondary seed senior serious set seven several shade shader shading shadow shadows shape shapes sharp sharply shelf
shining shiny ship shop short shot shoulder shoulders show showcasing showing shows shutter side silent silhouette
silk silky similar simple simply singer single sitting six size sized sketch skin skinny sky sleek sleeve sleeveless
sleeves slender slightly slim small smile smiling smooth snapshot snow snowy so sofa soft softbox softly solid
solitary some sometimes soon sophisticated southern space spacious spanish special spinning splendid spooky sport
sporty spring square stage stamp stand standard standing star stars static station statue steampunk stencil sticker
still stitched stitching stock stone store storm story straight strap straps street streetwear stretch stretchy
striking string strobe stroke strokes strong strongly student studio stunning style styling stylised stylish
stylized subject subtitle subtle subtly such suede summer sun sunlight sunny sunshine super superb sure surface
surreal suspended sustainable sweet symmetric symmetrical symmetry synthetic table tag tailored taken tall tapestry
tea teacher team teen teenage telephoto template temple ten test text texture textured that the theater theatre
theme themed then there these thick thin third this those thread three through thumbnail tidily tie tiger tight tile
timeless tint tiny title to today tomorrow tone tones too top totally tower town toy traditional train transparent
travel tree trees trending trendy trial triangle tropical true truly tulip tulle turning tweed two type typical
typographic typography uhd ui ultra uncluttered under underexposed uniform unique university up upper urban used
user using usual usually vacation various vector velvet version vertical very vibe vibrant view village vintage
viral virtual vivid waist wall want wardrobe warm warrior watch water watercolor watercolour waterproof wear wearing
web website wedding week well well-lit western what when where which while whimsical white-balance who whose wide
wind window windy winning winter with without wolf wonderful wood wooden wool woollen word work worker worn woven
wrinkled writing written yarn year years yesterday yet yoga young zip zipper zoom
"""

COMMON_WORDS: tuple[str, ...] = tuple(_WORDS.split())
