/* Half precision in memory, single precision in registers. Contracts in kernels.h. */

static void from_half(float *dst, const uint16_t *src, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + LANES32 <= count; i += LANES32) v32_store(dst + i, v32_from_half(src + i));
    if (i < count) {
        uint16_t rest[LANES32] = {0};
        memcpy(rest, src + i, (size_t)(count - i) * sizeof *rest);
        v32_store_first(dst + i, v32_from_half(rest), count - i);
    }
}

static void to_half(uint16_t *dst, const float *src, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + LANES32 <= count; i += LANES32) v32_to_half(dst + i, v32_load(src + i));
    if (i < count) {
        uint16_t rest[LANES32];
        v32_to_half(rest, v32_load_where(v32_range(0, count - i), src + i));
        memcpy(dst + i, rest, (size_t)(count - i) * sizeof *rest);
    }
}
