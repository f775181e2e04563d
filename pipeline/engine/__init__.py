"""The model behind an interface: what a run asks of it, how it is started, and what ends it.

interface                    what the stages ask of a renderer and of an engine
checkpoint, profile          a model's folder, and what is known of the model without loading it
model_files, weights         whether its files are whole; `identity` is what tells models apart
quantized                    which quantized checkpoints are loaded
models/                      how a model on the hub, in a store or in a GGUF file becomes a folder
adapters                     LoRA adapters: whether they fit the model, and what vLLM is told
turns, chat_template         the formats of prompts, and from a request's texts to token ids
renderer                     requests to ids and pixels, without torch or vLLM
backends                     which engine a run has
endpoint                     a server that runs already behind the interface
vllm_engine                  vLLM behind the interface, in a process of its own
vllm_process, channel        what runs in that process, and how the two talk
vllm_start                   how vLLM's engine is made there, and what is told of it
engine_process               how that process is started, also ahead of Ray
preload                      what that process loads first on a CPU
vllm_settings, vllm_sampling what vLLM is told: of the engine, of each request
offline                      vLLM's offline class, for `bench` to compare with
detokenizer                  from an answer's token ids to its text
warm_hosts                   renderers and engines that outlive a run
warm_connections             how a run reaches them
startup                      making a renderer or an engine in an actor
watchdog                     what ends a process that hangs
orphans, orphan_watcher      what ends all that an engine started, once its process is gone
sockets                      the folder of an engine's sockets, which goes with it
model_class                  which class vLLM will run
supported_versions           which Ray and vLLM are supported
"""
