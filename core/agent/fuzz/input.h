/* The bytes that a fuzzer gives, taken from the front; after the end everything is 0. */
#ifndef VMATLAS_FUZZ_INPUT_H
#define VMATLAS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A claim of the harness: the fuzzer keeps the input for which it does not hold. */
#define CLAIM(holds) ((holds) ? (void)0 : ((void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #holds), abort()))

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint32_t take_byte(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

static inline uint32_t take_word(struct input *input)
{
    uint32_t low = take_byte(input);
    return low | take_byte(input) << 8;
}

static inline void take_bytes(struct input *input, uint8_t *to, size_t size)
{
    size_t have = size < input->left ? size : input->left;
    memcpy(to, input->at, have);
    memset(to + have, 0, size - have);
    input->at += have;
    input->left -= have;
}

static inline struct input split_input(struct input *input, size_t size)
{
    struct input part = {input->at, size < input->left ? size : input->left};
    input->at += part.left;
    input->left -= part.left;
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
