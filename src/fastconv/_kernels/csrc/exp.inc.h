/* The exponential function of vectors: x = n*ln(2) + r with |r| <= ln(2)/2, and exp(x) = 2^n * (1 + (e^r - 1)),
 * where e^r - 1 is its Taylor polynomial, whose first omitted term is below a twelfth of a unit in the last place.
 * The error is below 1 unit in the last place where products are fused, 2 elsewhere. */

#if FC_DTYPE == 32
#define FC_LN2_HIGH 0x1.63p-1f /* few bits, so that n times it is exact */
#define FC_LN2_LOW -0x1.bd0106p-13f
enum { FC(EXP_TERMS) = 7 };
static const T FC(exp_highest) = 89, FC(exp_lowest) = -104; /* e^these are infinite, and 0 */
#else
#define FC_LN2_HIGH 0x1.62e42feep-1
#define FC_LN2_LOW 0x1.a39ef35793c76p-33
enum { FC(EXP_TERMS) = 13 };
static const T FC(exp_highest) = 710, FC(exp_lowest) = -746;
#endif

/* e^r - 1, and n as an integer in floating point; x within the bounds above. */
FC_INLINE VEC FC(exp_reduced)(VEC x, VEC *n)
{
    static const T inverse_factorial[14] = {
        (T)1, (T)1, (T)0.5, (T)(1. / 6), (T)(1. / 24), (T)(1. / 120), (T)(1. / 720), (T)(1. / 5040), (T)(1. / 40320),
        (T)(1. / 362880), (T)(1. / 3628800), (T)(1. / 39916800), (T)(1. / 479001600), (T)(1. / 6227020800),
    };
    *n = V(round)(V(mul)(x, V(set1)((T)1.4426950408889634)));
    VEC r = V(fma)(*n, V(set1)(-FC_LN2_HIGH), x);
    r = V(fma)(*n, V(set1)(-FC_LN2_LOW), r);
    VEC sum = V(set1)(inverse_factorial[FC(EXP_TERMS)]);
    FC_UNROLL
    for (int k = FC(EXP_TERMS) - 1; k >= 2; k--) sum = V(fma)(sum, r, V(set1)(inverse_factorial[k]));
    return V(fma)(V(mul)(r, r), sum, r);
}

FC_INLINE VEC FC(exp_vector)(VEC x)
{
    const VEC highest = V(set1)(FC(exp_highest)), lowest = V(set1)(FC(exp_lowest));
    VEC n;
    x = V(select)(V(greater)(x, highest), highest, V(select)(V(greater)(lowest, x), lowest, x));
    const VEC reduced = FC(exp_reduced)(x, &n);
    /* In two steps: neither power leaves the range, and only the second product rounds, or overflows. */
    const VEC half = V(round)(V(mul)(n, V(set1)((T)0.5)));
    const VEC first = V(mul)(V(add)(reduced, V(set1)(1)), V(pow2)(half));
    return V(mul)(first, V(pow2)(V(sub)(n, half)));
}

#undef FC_LN2_HIGH
#undef FC_LN2_LOW
