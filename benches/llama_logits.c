// Writes llama.cpp's logits of a text, for the comparison in tests/model.rs: 32 pieces of 64 tokens, each
// read from its start, positions 0 to 62, as f32 (piece, position, vocabulary).
//
//   cc benches/llama_logits.c -I LLAMA/include -I LLAMA/ggml/include -L BIN_DIR -lllama -o llama_logits
//   LD_LIBRARY_PATH=BIN_DIR ./llama_logits MODEL.gguf LICENSE logits.f32
#include <stdio.h>
#include <stdlib.h>
#include "llama.h"

enum { PIECES = 32, LENGTH = 64 };

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: %s MODEL TEXT OUT\n", argv[0]), 1;
    FILE *text_file = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    static char text[1 << 16];
    static llama_token tokens[1 << 15];
    if (!text_file || !out) return perror("open"), 1;
    size_t size = fread(text, 1, sizeof text, text_file);
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int width = llama_vocab_n_tokens(vocab);
    int count = llama_tokenize(vocab, text, size, tokens, sizeof tokens / sizeof *tokens, false, false);
    if (count < PIECES * LENGTH) return fprintf(stderr, "the text has %d tokens\n", count), 1;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = LENGTH;
    struct llama_context *context = llama_init_from_model(model, params);
    struct llama_batch batch = llama_batch_init(LENGTH, 0, 1);
    for (int piece = 0; piece < PIECES; piece++) {
        llama_memory_clear(llama_get_memory(context), true);
        batch.n_tokens = LENGTH - 1;
        for (int at = 0; at < batch.n_tokens; at++) {
            batch.token[at] = tokens[piece * LENGTH + at];
            batch.pos[at] = at;
            batch.n_seq_id[at] = 1;
            batch.seq_id[at][0] = 0;
            batch.logits[at] = 1;
        }
        if (llama_decode(context, batch)) return fprintf(stderr, "decoding failed\n"), 1;
        for (int at = 0; at < batch.n_tokens; at++)
            fwrite(llama_get_logits_ith(context, at), sizeof(float), width, out);
    }
    return fclose(out) ? 1 : 0;
}
