/* The table of kernels: the only C header that Cython sees.
 *
 * One table exists per instruction set and dtype. All pointers into arrays are
 * `void` here and point to elements of the table's dtype; every stride and
 * every offset counts elements, never bytes. Nothing here checks anything:
 * callers guarantee alignment to the element, in-range indices and the absence
 * of overlap between what is read and what is written.
 */
#ifndef FASTCONV_KERNELS_H
#define FASTCONV_KERNELS_H

#include <stddef.h>

enum { FC_FLOAT32 = 0, FC_FLOAT64 = 1, FC_DTYPES = 2 };

/* Upper bounds over all instruction sets, for scratch on the stack. */
enum { FC_MAX_MR = 12, FC_MAX_NR = 32 };

/* One tile of a matrix product,
 *     C[i*c_row + j] = sum_k A[i*a_row + offset(k)] * B[k*b_step + j],
 * for i < rows and j < nr (nr is the table's and not negotiable: columns past
 * the end must be readable in B and writable in C; use scratch at edges).
 * offset(k) is a_table[k], or k*a_step where a_table is NULL.
 * The sum runs over k in order, one fused accumulator an element, so the result
 * depends on the operands alone.
 *
 * accumulate: the old C is the first term of the sum. Otherwise that term is
 * row_bias[i], or column_bias[j], or zero where both are NULL.
 * relu: the stored value is max(sum, 0), and NaN where the sum is NaN.
 */
typedef struct {
    ptrdiff_t depth;
    const void *a;
    ptrdiff_t a_row;
    ptrdiff_t a_step;
    const ptrdiff_t *a_table;
    const void *b;
    ptrdiff_t b_step;
    void *c;
    ptrdiff_t c_row;
    int rows; /* 1 .. mr */
    int accumulate;
    int relu;
    const void *row_bias;
    const void *column_bias;
} fc_tile;

typedef struct {
    const char *isa;
    int itemsize;
    int lanes; /* elements in a vector */
    int mr;    /* most rows of a tile */
    int nr;    /* columns of a tile: two vectors */

    void (*gemm_tile)(const fc_tile *tile);

    /* dst[j*dst_row + i] = src[i*src_row + j], i < rows, j < columns. */
    void (*transpose)(void *dst, ptrdiff_t dst_row, const void *src, ptrdiff_t src_row,
                      ptrdiff_t rows, ptrdiff_t columns);

    /* dst[i] = src[i*step], i < count: a strided row made dense. */
    void (*gather)(void *dst, const void *src, ptrdiff_t step, ptrdiff_t count);

    /* dst[i*step] = src[i], i < count. */
    void (*scatter)(void *dst, ptrdiff_t step, const void *src, ptrdiff_t count);

    /* dst[k*dst_row + i] = src[table[k] + i*step], k < depth, i < count. */
    void (*gather_rows)(void *dst, ptrdiff_t dst_row, const void *src, const ptrdiff_t *table,
                        ptrdiff_t step, ptrdiff_t depth, ptrdiff_t count);

    /* dst[i] += src[i], i < count. */
    void (*add)(void *dst, const void *src, ptrdiff_t count);

    /* The sum of src[i], i < count, in an order that depends on count alone; added to *dst. */
    void (*add_sum)(void *dst, const void *src, ptrdiff_t count);
} fc_kernels;

/* The instruction sets compiled in and usable on this machine, best first; NULL ends the list. */
const char *const *fc_isa_available(void);

/* Every name compiled in, usable here or not; NULL ends the list. */
const char *const *fc_isa_compiled(void);

/* Table of `isa` (a string of fc_isa_compiled) for a dtype; NULL if there is none. */
const fc_kernels *fc_isa_kernels(const char *isa, int dtype);

#endif
