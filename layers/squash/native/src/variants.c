/* Which variants the processor, and the system that saves its registers, can run. */
#include "squash_kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>

enum { XMM_YMM = 0x6, ZMM = 0xe0 };

/* Registers that the system saves when it switches threads; only asked where cpuid allows it. */
static uint32_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

uint32_t sq_variants(void) {
    uint32_t found = SQ_HAS_PORTABLE;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    /* xsave in use, avx, f16c, popcnt, fma */
    if (!has(c, 1u << 27 | 1u << 28 | 1u << 29 | 1u << 23 | 1u << 12)) return found;
    const uint32_t saved = saved_registers();
    if (!has(saved, XMM_YMM)) return found;
    uint32_t ext_a, ext_b, ext_c, ext_d;
    if (!__get_cpuid(0x80000001u, &ext_a, &ext_b, &ext_c, &ext_d)) return found;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    /* avx2, bmi1, bmi2; lzcnt */
    if (!has(b, 1u << 5 | 1u << 3 | 1u << 8) || !has(ext_c, 1u << 5)) return found;
    found |= SQ_HAS_AVX2;
    /* f, dq, bw, vl; vbmi, vnni */
    if (has(saved, XMM_YMM | ZMM) && has(b, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) &&
        has(c, 1u << 1 | 1u << 11))
        found |= SQ_HAS_AVX512;
    return found;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

uint32_t sq_variants(void) {
    const unsigned long dot_products = 1ul << 20; /* HWCAP_ASIMDDP */
    uint32_t found = SQ_HAS_PORTABLE | SQ_HAS_NEON;
    if (getauxval(AT_HWCAP) & dot_products) found |= SQ_HAS_NEONDOT;
    return found;
}

#elif defined(__aarch64__) && defined(__APPLE__)

uint32_t sq_variants(void) { return SQ_HAS_PORTABLE | SQ_HAS_NEON | SQ_HAS_NEONDOT; }

#else

uint32_t sq_variants(void) { return SQ_HAS_PORTABLE; }

#endif

uint32_t sq_interface(void) { return SQ_INTERFACE; }
