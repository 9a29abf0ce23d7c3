/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/os.h: what each function promises to the layers above, and what it says
 * when the system refuses (P11).
 */
#include "testing.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "os.h"

enum { PAGE = 4096, ROUNDS = 500 };

/* Valgrind and an emulator map memory of their own meanwhile. */
static long tool_pages(void)
{
#ifdef SEG_VALGRIND
	return 255;
#else
	return getenv("EMULATOR") ? 255 : 0;
#endif
}

/* Pages of address space that the process has. */
static long mapped_pages(void)
{
	char text[64] = "";
	int file = open("/proc/self/statm", O_RDONLY);
	ssize_t n = read(file, text, sizeof(text) - 1);

	close(file);
	return n > 0 ? strtol(text, NULL, 10) : -1;
}

static bool is_zero(const char *base, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += PAGE / 2)
		if (base[i])
			return false;
	return base[bytes - 1] == 0;
}

/*
 * Odd neighbours in between make the kernel offer addresses that are not
 * aligned, so that the ends have to be cut off.
 */
static void test_map_is_aligned_zero_and_exact(void **state)
{
	const size_t align[] = { 64, PAGE, 1 << 16, 1 << 21, 1 << 24 };
	void *odd[5], *base[5];
	long before = mapped_pages();

	(void)state;
	for (int i = 0; i < 5; i++) {
		odd[i] = os_map((size_t)(2 * i + 1) * PAGE, PAGE);
		base[i] = os_map((size_t)(i + 1) << 20, align[i]);
		assert_non_null(base[i]);
		assert_int_equal((uintptr_t)base[i] & (align[i] - 1), 0);
		assert_true(is_zero(base[i], (size_t)(i + 1) << 20));
		memset(base[i], 0xa5, (size_t)(i + 1) << 20);
	}
	assert_in_range(mapped_pages() - before, 25 + (15 << 8),
			25 + (15 << 8) + tool_pages());
	for (int i = 0; i < 5; i++) {
		assert_int_equal(os_unmap(odd[i],
					  (size_t)(2 * i + 1) * PAGE), 0);
		assert_int_equal(os_unmap(base[i], (size_t)(i + 1) << 20), 0);
	}
	assert_in_range(mapped_pages(), before, before + tool_pages());
}

static void test_unmap_says_what_is_wrong(void **state)
{
	char *base = os_map(2 * PAGE, PAGE);

	(void)state;
	errno = ENOTTY;
	assert_int_equal(os_unmap(base + 1, PAGE), -EINVAL);
	assert_int_equal(os_unmap(base, 0), -EINVAL);
	assert_int_equal(errno, ENOTTY);
	base[0] = base[2 * PAGE - 1] = 1;
	assert_int_equal(os_unmap(base, 2 * PAGE), 0);
	assert_int_equal(errno, ENOTTY);
}

/* As with slices that are smaller than the system's pages. */
static void test_parts_of_pages(void **state)
{
	long before = mapped_pages();
	char *base = os_map(PAGE + 100, 1 << 21);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	(void)state;
	assert_non_null(base);
	base[0] = base[page / 2] = base[PAGE + 99] = 1;
	assert_int_equal(os_discard(base, page / 2), -EINVAL);
	assert_int_equal(os_discard(base + page / 2, page), -EINVAL);
	assert_true(base[0] && base[page / 2] && base[PAGE + 99]);
	assert_int_equal(os_discard(base, page), 0);
	assert_false(base[0] || base[page / 2]);
	assert_int_equal(os_unmap(base, PAGE + 100), 0);
	assert_in_range(mapped_pages(), before, before + tool_pages());
}

/* No address space left: NULL and ENOMEM, for aligned maps as well. */
static int map_without_room(void *unused)
{
	struct rlimit none = { 0, 0 };

	(void)unused;
	if (setrlimit(RLIMIT_AS, &none))
		return 1;
	errno = 0;
	if (os_map(PAGE, PAGE) || errno != ENOMEM)
		return 2;
	errno = 0;
	if (os_map(64 << 20, 1 << 21) || errno != ENOMEM)
		return 3;
	return 0;
}

/* Room for the bytes, none for the larger range that alignment needs. */
static int align_without_room(void *unused)
{
	const size_t align = (size_t)1 << 32;
	struct rlimit some;
	long before = mapped_pages();

	(void)unused;
	some.rlim_cur = some.rlim_max = (rlim_t)(before + 512) * PAGE;
	if (setrlimit(RLIMIT_AS, &some))
		return 1;
	errno = 0;
	if (os_map(PAGE, align) || errno != ENOMEM)
		return 2;
	return mapped_pages() == before ? 0 : 3;
}

static void test_map_without_room_is_enomem(void **state)
{
	(void)state;
	if (emulated("its address space is not the program's alone"))
		skip();
	assert_int_equal(run_in_child(map_without_room, NULL), 0);
	assert_int_equal(run_in_child(align_without_room, NULL), 0);
}

static void test_calloc_and_realloc(void **state)
{
	unsigned char *memory = os_calloc(100, 3);

	(void)state;
	for (int i = 0; i < 300; i++)
		assert_int_equal(memory[i], 0);
	memset(memory, 7, 300);
	memory = os_realloc(memory, 100000);
	assert_non_null(memory);
	assert_int_equal(memory[0], 7);
	assert_int_equal(memory[299], 7);
	os_free(memory);
	os_free(NULL);
}

static void test_now_never_goes_back(void **state)
{
	uint64_t last = os_now_ns();

	(void)state;
	assert_true(last > 0);
	for (int i = 0; i < 1000; i++) {
		uint64_t now = os_now_ns();

		assert_true(now >= last);
		last = now;
	}
}

/* If it slept here, it would sleep for ever. */
static void test_futex_does_not_sleep_on_another_value(void **state)
{
	struct atomic_u32 word = { .value = 4 };

	(void)state;
	errno = ENOTTY;
	os_futex_wait(&word, 3, OS_FOREVER);
	os_futex_wake_all(&word);
	assert_int_equal(errno, ENOTTY);
}

static void test_futex_ends_by_its_timeout(void **state)
{
	struct atomic_u32 word = { .value = 3 };

	(void)state;
	errno = ENOTTY;
	os_futex_wait(&word, 3, 0);
	os_futex_wait(&word, 3, 1000000);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(u32_load_relaxed(&word), 3);
}

/* Two threads pass the word to and fro; a lost wake-up is a hang. */
static struct atomic_u32 turn;

static void take_turns(uint32_t me)
{
	for (int i = 0; i < ROUNDS; i++) {
		while (u32_load_acquire(&turn) != me)
			os_futex_wait(&turn, !me, OS_FOREVER);
		u32_store_release(&turn, !me);
		os_futex_wake_all(&turn);
	}
}

static void *other_side(void *arg)
{
	(void)arg;
	take_turns(1);
	return NULL;
}

static void test_futex_wakes_the_other_thread(void **state)
{
	struct threads t;

	(void)state;
	threads_start(&t, 1, other_side, NULL, 0);
	take_turns(0);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(u32_load_relaxed(&turn), 0);
}

static int use_membarrier(void *unused)
{
	(void)unused;
	errno = ENOTTY;
	return os_membarrier() || errno != ENOTTY;
}

/* A filter that comes when the process has been registered. */
static int refuse_membarrier(void *unused)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(rules) / sizeof(*rules), rules };

	(void)unused;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		return 1;
	errno = ENOTTY;
	if (os_membarrier() != -EACCES || os_membarrier_register() != -EACCES)
		return 2;
	return errno == ENOTTY ? 0 : 3;
}

static void test_membarrier_and_its_refusal(void **state)
{
	(void)state;
	if (emulated("it has system calls of its own") ||
	    os_membarrier_register())
		skip();
	assert_int_equal(use_membarrier(NULL), 0);
	assert_int_equal(run_in_child(use_membarrier, NULL), 0);
	assert_int_equal(run_in_child(refuse_membarrier, NULL), 0);
}

static void *read_mask(void *ret_mask)
{
	pthread_sigmask(SIG_SETMASK, NULL, ret_mask);
	os_yield();
	return NULL;
}

/* The application's signals stay with the application's threads. */
static void test_thread_has_all_signals_blocked(void **state)
{
	const int signals[] = { SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD };
	sigset_t before, after, mask;
	pthread_t thread;

	(void)state;
	sigemptyset(&mask);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(os_thread_start(&thread, read_mask, &mask), 0);
	os_thread_join(thread);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		assert_true(sigismember(&mask, signals[i]));
		assert_int_equal(sigismember(&after, signals[i]),
				 sigismember(&before, signals[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_is_aligned_zero_and_exact),
		cmocka_unit_test(test_unmap_says_what_is_wrong),
		cmocka_unit_test(test_parts_of_pages),
		cmocka_unit_test(test_map_without_room_is_enomem),
		cmocka_unit_test(test_calloc_and_realloc),
		cmocka_unit_test(test_now_never_goes_back),
		cmocka_unit_test(test_futex_does_not_sleep_on_another_value),
		cmocka_unit_test(test_futex_ends_by_its_timeout),
		cmocka_unit_test(test_futex_wakes_the_other_thread),
		cmocka_unit_test(test_membarrier_and_its_refusal),
		cmocka_unit_test(test_thread_has_all_signals_blocked),
	};

	return run_group(tests);
}
