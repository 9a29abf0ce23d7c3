/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Everything that the library asks of the system.  os.c is the only file with
 * system calls and malloc; a test replaces it by one that fails on demand.
 */
#ifndef SEG_OS_H
#define SEG_OS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "atomic.h"

#define OS_FOREVER UINT64_MAX

/*
 * Maps zero-filled memory aligned to align (a power of two, at least a system
 * page).  NULL and errno on failure.  Lock-free, unlike malloc.
 */
void *os_map(size_t bytes, size_t align);

/* 0 or a negative errno; then the mapping is as it was. */
int os_unmap(void *base, size_t bytes);

/*
 * Takes the backing of whole system pages away: they read as zeros when next
 * touched.  0 or a negative errno; then some of them may have gone, but with
 * -EINVAL, for what are no whole pages, none.
 */
int os_discard(void *base, size_t bytes);

/*
 * From now on no page larger than the system's is put there, so that touching
 * a byte backs no more than its own; those that are there stay.  0 or a
 * negative errno.
 */
int os_use_small_pages(void *base, size_t bytes);

/* Advice: pages of 2 MiB are welcome there.  0, also where there are none, or a
 * negative errno. */
int os_use_huge_pages(void *base, size_t bytes);

/*
 * Advice: a huge page around that system page, whose contents are wanted no
 * more, is to become small ones.  Else the kernel takes what is discarded of it
 * from the process, but keeps it until all of it is discarded or it is short
 * of memory.  0 or a negative errno.
 */
int os_split_huge_page(void *page);

/* Backs whole system pages, whose contents stay as they are, all in one call.
 * 0 or a negative errno; then some may be backed; -EINVAL: it never will. */
int os_back(void *base, size_t bytes);

/* Memory of malloc's, for what blocks anyway; calloc's is zero-filled and
 * aligned to a cache line.  NULL on failure; errno is left alone. */
void *os_calloc(size_t count, size_t bytes);
void *os_realloc(void *memory, size_t bytes);
void os_free(void *memory);

/* CLOCK_MONOTONIC. */
uint64_t os_now_ns(void);

/* Sleeps while *word is expected, at most timeout_ns; may wake for nothing. */
void os_futex_wait(struct atomic_u32 *word, uint32_t expected,
		   uint64_t timeout_ns);
void os_futex_wake_all(struct atomic_u32 *word);

/*
 * membarrier(2): each thread of the process that runs does a full barrier at
 * some moment of the call; to one that does not, switching to it is one.  The
 * process has to be registered for it; the child of a fork is, too, a program
 * that is executed is not.  0 or a negative errno.  Both leave errno alone.
 */
int os_membarrier_register(void);
int os_membarrier(void);

void os_yield(void);

/* Starts a thread that no signal of the application is delivered to. */
int os_thread_start(pthread_t *ret_thread, void *(*main)(void *), void *arg);
/* No cancellation point. */
void os_thread_join(pthread_t thread);

/* os_proc.c: reads so much of a file as text; its length, or a negative errno.
 * No cancellation point.  The process's number, which a fork changes. */
long os_read_file(const char *path, char *text, size_t bytes);
long os_process_id(void);

/* os_proc.c: when a process began, in ticks since the machine did; 0: there is
 * none, or it has ended.  And a number of the process namespace. */
uint64_t os_process_start(long id);
uint64_t os_process_namespace(void);

/*
 * os_file.c: makes a new file in the place of any old one, for the owner alone,
 * and maps it, zero-filled and shared; or a negative errno.  No cancellation
 * point, and errno is left alone by both.
 */
int os_map_file(const char *path, size_t bytes, void **ret_base);
void os_remove_file(const char *path);

#endif
