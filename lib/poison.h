/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the checkers are told about segments.
 *
 * ASan: a segment that is not handed out is poisoned.  Valgrind: it may not
 * be accessed, and is undefined when handed out.  TSan: a release, a discard
 * and an unmap count as writes ("claims"), so that whoever still reads is
 * reported: madvise and munmap are invisible to TSan.  The first line of a
 * slice does for that.
 */
#ifndef SEG_POISON_H
#define SEG_POISON_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SEG_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SEG_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SEG_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define SEG_TSAN 1
#endif

#define POISON_CLAIM_BYTES 64

#ifdef SEG_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void __tsan_write_range(void *address, long bytes);
#define poison_claim(p) __tsan_write_range((p), POISON_CLAIM_BYTES)
#else
#define poison_claim(p) ((void)(p))
#endif

#if defined(SEG_ASAN)
#include <sanitizer/asan_interface.h>
#define poison_hide(p, n) __asan_poison_memory_region((p), (n))
#define poison_show(p, n) __asan_unpoison_memory_region((p), (n))
#define poison_forget(p, n) __asan_unpoison_memory_region((p), (n))
#elif defined(SEG_VALGRIND)
#include <valgrind/memcheck.h>
#define poison_hide(p, n) ((void)VALGRIND_MAKE_MEM_NOACCESS((p), (n)))
#define poison_show(p, n) ((void)VALGRIND_MAKE_MEM_UNDEFINED((p), (n)))
#define poison_forget(p, n) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (n)))
#else
#define poison_hide(p, n) ((void)(p), (void)(n))
#define poison_show(p, n) ((void)(p), (void)(n))
#define poison_forget(p, n) ((void)(p), (void)(n))
#endif

/* The slices of a new region. */
static inline void poison_region_mapped(void *base, size_t bytes)
{
	poison_hide(base, bytes);
}

/* The first bytes of a hidden slice may be read by who owns the one before. */
static inline void poison_show_tail(void *slice, size_t tail_bytes)
{
	poison_forget(slice, tail_bytes);
}

/* A slice becomes the caller's. */
static inline void poison_handed_out(void *slice, size_t bytes)
{
	poison_show(slice, bytes);
}

/* A slice that is known to hold zeros becomes the caller's. */
static inline void poison_handed_out_zero(void *slice, size_t bytes)
{
	poison_forget(slice, bytes);
}

/* A slice comes back; whoever still uses it races with this.  Its first bytes
 * may be read by who owns the one before. */
static inline void poison_released(void *slice, size_t bytes,
				   size_t tail_bytes)
{
	poison_claim(slice);
	poison_hide((char *)slice + tail_bytes, bytes - tail_bytes);
}

/* Its backing is about to go; it stays hidden. */
static inline void poison_discarded(void *slice)
{
	poison_claim(slice);
}

/* The region is about to go; whoever still uses a slice races with this. */
static inline void poison_region_unmapped(void *base, size_t bytes,
					  size_t slice_bytes)
{
	poison_forget(base, bytes);
#ifdef SEG_TSAN
	for (size_t at = 0; at < bytes; at += slice_bytes)
		poison_claim((char *)base + at);
#else
	(void)slice_bytes;
#endif
}

#endif
