/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * include/seg.hpp as C++17 and C++20, linked to the real library: what is moved
 * is released once, constructors throw, all else tells by error codes.
 */
#include <seg.hpp>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>	/* does not say so itself */
}

/* Its own take numbers only. */
#undef assert_true
#undef assert_false
#define assert_true(c) _assert_true((c) ? 1 : 0, #c, __FILE__, __LINE__)
#define assert_false(c) _assert_true((c) ? 0 : 1, #c, __FILE__, __LINE__)

static const std::uint64_t MIB = 1024 * 1024;

static seg::pool pool_without_wait(const seg::budget &b)
{
	auto o = seg::sized<seg_pool_options>();

	o.budget = b.get();
	o.wait_ms = SEG_NO_WAIT;
	return seg::pool(o);
}

static seg::cache cache_of_pages(const seg::pool &p)
{
	auto o = seg::sized<seg_cache_options>();

	o.max_weight = MIB;
	o.pages = p.get();
	return seg::cache(o);
}

/* A budget and a pool, of which nothing is left and nothing was misused. */
struct scene {
	seg::budget budget{16 * MIB};
	seg::pool pool = pool_without_wait(budget);

	~scene()
	{
		assert_int_equal(pool.stats().active, 0);
		assert_int_equal(pool.stats().misuses_total, 0);
		assert_true(seg_pool_is_valid(pool.get()));
		assert_false(pool.destroy());
		assert_false(pool);
		assert_false(budget.destroy());
	}
};

template <class F> static int code_thrown_by(F f)
{
	try {
		f();
	} catch (const std::system_error &e) {
		assert_true(e.code().category() == std::generic_category());
		return e.code().value();
	} catch (const std::bad_alloc &) {
		return ENOMEM;
	}
	return 0;
}

static void test_constructors_throw(void **)
{
	auto no_budget = seg::sized<seg_pool_options>();
	auto no_weight = seg::sized<seg_cache_options>();
	scene s;

	assert_int_equal(code_thrown_by([] { seg::budget b(1); }), ERANGE);
	assert_int_equal(code_thrown_by([&] { seg::pool p(no_budget); }),
			 EINVAL);
	assert_int_equal(code_thrown_by([&] { seg::cache c(no_weight); }),
			 EINVAL);
	assert_int_equal(code_thrown_by([&] { seg::txlog l{seg::pool()}; }),
			 EINVAL);
	assert_int_equal(code_thrown_by([&] { seg::page p(s.pool, {0}); }),
			 EINVAL);
	assert_int_equal(code_thrown_by([&] { seg::segment g(s.pool, 0); }),
			 EINVAL);
	assert_int_equal(code_thrown_by([&] { seg::segment g(s.pool, 1); }), 0);
}

template <class T> static void check_moves(T first)
{
	static_assert(!std::is_copy_constructible_v<T>, "moved only");
	static_assert(!std::is_copy_assignable_v<T>, "moved only");
	static_assert(std::is_nothrow_move_constructible_v<T>, "vectors");
	static_assert(std::is_nothrow_move_assignable_v<T>, "vectors");
	T third, second(std::move(first));
	T &alias = third;

	assert_true(second);
	assert_false(first);
	assert_false(third);
	third = std::move(second);
	assert_true(third);
	assert_false(second);
	third = std::move(alias);
	assert_true(third);
	second = std::move(first);
	assert_false(second);
}

static void test_what_is_moved_is_released_once(void **)
{
	scene s;
	seg::cache cache = cache_of_pages(s.pool);
	seg::pin pin;

	check_moves(seg::budget(MIB));
	check_moves(seg::pool(s.budget));
	check_moves(seg::segment(s.pool, 5000));
	check_moves(seg::page(s.pool, {5000, 1}));
	check_moves(seg::txlog(s.pool));
	check_moves(cache_of_pages(s.pool));
	assert_false(cache.put(1, seg::page(s.pool, {1}), &pin));
	check_moves(std::move(pin));
	assert_int_equal(cache.stats().pinned_weight, 0);
	assert_int_equal(cache.stats().misuses_total, 0);
	assert_int_equal(s.pool.stats().allocations_total, 4);
	assert_int_equal(s.pool.stats().releases_total, 3);
}

/* The old one goes, also where both were something. */
static void test_assigned_over(void **)
{
	scene s;
	seg::segment a(s.pool, 1), b(s.pool, 2);
	void *kept = b.data();

	a = std::move(b);
	assert_ptr_equal(a.data(), kept);
	assert_int_equal(s.pool.stats().active, 1);
	assert_int_equal(a.size(), SEG_MIN_BYTES);
	assert_int_equal(seg_release(s.pool.get(), a.release()), 0);
	assert_int_equal(a.size(), 0);
}

static void test_what_is_used_is_not_destroyed(void **)
{
	scene s;
	seg::segment held(s.pool, 1);

	assert_true(s.pool.destroy() == std::errc::device_or_resource_busy);
	assert_true(s.budget.destroy() == std::errc::device_or_resource_busy);
	assert_true(s.pool && s.budget);
	assert_int_equal(s.budget.stats().pools, 1);
	assert_false(held.destroy());
	assert_false(held.destroy());
}

static void test_at_the_limit(void **)
{
	seg::budget budget(2 * SEG_MAX_BYTES);
	seg::pool pool = pool_without_wait(budget);
	seg::segment a(pool, SEG_MAX_BYTES), b(pool, SEG_MAX_BYTES);
	std::error_code error;

	errno = ENOTTY;
	assert_false(seg::segment::allocate(pool, 1, error));
	assert_true(error == std::errc::not_enough_memory);
	assert_int_equal(errno, ENOTTY);
	assert_false(seg::page::create(pool, {1}, error));
	assert_true(error == std::errc::not_enough_memory);
	assert_int_equal(code_thrown_by([&] { seg::segment(pool, 1); }),
			 ENOMEM);
	assert_int_equal(code_thrown_by([&] { seg::page(pool, {1}); }), ENOMEM);
	assert_true(budget.set_limit(SEG_MAX_BYTES) ==
		    std::errc::device_or_resource_busy);
	a = seg::segment();
	assert_true(seg::segment::allocate(pool, 1, error));
	assert_false(error);
}

static void test_options_of_one_allocation(void **)
{
	auto o = seg::sized<seg_alloc_options>();
	scene s;
	std::error_code error;

	o.zeroed = 1;
	seg::segment a(s.pool, 5000, o);
	auto all = s.pool.stats(1);

	assert_int_equal(*static_cast<char *>(a.data()), 0);
	assert_int_equal(all.active, 1);
	assert_int_equal(s.pool.stats(0).active, 0);
	assert_int_equal(s.pool.stats(1, 9999).active, 0);
	o.zeroed = 2;
	errno = ENOTTY;
	assert_false(seg::segment::allocate(s.pool, 1, o, error));
	assert_true(error == std::errc::invalid_argument);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(code_thrown_by([&] { seg::segment(s.pool, 1, o); }),
			 EINVAL);
	o.zeroed = 0;
	o.policy = SEG_POLICY_NODE;
	seg_region_info info = seg::sized<seg_region_info>();
	assert_int_equal(seg_region_of(s.pool.get(), a.data(), &info), 0);
	o.node = info.node;
	a = seg::segment(s.pool, 5000, o);
	assert_int_equal(s.pool.stats(1, o.node).active, 1);
}

/* ---- pages, caches, logs ---- */

static void test_a_cache_of_pages(void **)
{
	scene s;
	seg::cache cache = cache_of_pages(s.pool);
	std::error_code error;
	seg::page page(s.pool, {100, 9000});
	void *first = page.part(0);

	assert_int_equal(page.parts(), 2);
	assert_int_equal(page.bytes(), page.part_bytes(0) + page.part_bytes(1));
	assert_false(page.grow(0, 5000));
	first = page.part(0);
	assert_false(cache.put(7, std::move(page)));
	assert_false(page);
	page = seg::page(s.pool, {1});
	assert_true(cache.put(7, std::move(page)) == std::errc::file_exists);
	assert_true(page);
	assert_true(cache.put(8, seg::page()) == std::errc::invalid_argument);
	{
		seg::pin pin = cache.find(7, error);

		assert_false(error);
		assert_ptr_equal(pin.part(0), first);
		assert_false(pin.tag(5));
		seg_pin again;

		assert_int_equal(seg_pin_again(pin.get(), &again), 0);
		assert_ptr_equal(seg::pin(again).part(0), first);
		cache.take_page(7, error);
		assert_true(error == std::errc::device_or_resource_busy);
		assert_false(pin.unpin());
		assert_false(pin);
	}
	assert_false(cache.replace(7, std::move(page)));
	assert_true(cache.take_page(7, error));
	assert_false(cache.find(7, error));
	assert_true(error == std::errc::no_such_file_or_directory);
	assert_true(cache.remove(7) == std::errc::no_such_file_or_directory);
	assert_false(cache.clear());
}

static std::error_code load_nothing(std::uint64_t, seg::page &)
{
	return seg::error_of(-ENODATA);
}

static void test_loaders(void **)
{
	scene s;
	seg::cache cache = cache_of_pages(s.pool);
	std::error_code error;
	unsigned calls = 0;
	auto load = [&](std::uint64_t key, seg::page &ret_page) {
		calls++;
		ret_page = seg::page(s.pool, {1});
		if (key == 2)
			return seg::error_of(-EIO);
		if (key == 3)
			throw std::bad_alloc();
		if (key == 4)
			throw 4;
		if (key == 5)
			(void)seg::page(s.pool, {0});
		if (key == 6)
			return std::error_code(1, std::system_category());
		return std::error_code();
	};
	const int expected[] = { 0, 0, EIO, ENOMEM, ECANCELED, EINVAL,
				 ECANCELED, 0, 0 };

	for (unsigned key = 0; key < 8; key++) {
		seg::pin pin = cache.find_or_load(key, load, error);

		assert_int_equal(error.value(), expected[key]);
		assert_int_equal(!!pin, !error);
	}
	assert_true(cache.find_or_load(1, load, error));
	assert_int_equal(calls, 8);
	assert_int_equal(cache.stats().load_failures_total, 5);
	const auto plain = [](std::uint64_t, void **, std::uint64_t *) {
		return -ENODATA;
	};
	cache.find_or_load(9, plain, error);
	assert_int_equal(error.value(), ENODATA);
	cache.find_or_load(9, load_nothing, error);
	assert_int_equal(error.value(), ENODATA);
}

/* A page that the cache does not take is released. */
static void test_a_loader_with_a_foreign_page(void **)
{
	scene s, other;
	seg::cache cache = cache_of_pages(s.pool);
	std::error_code error;

	cache.find_or_load(1, [&](auto, seg::page &ret_page) {
		ret_page = seg::page(other.pool, {1});
		return std::error_code();
	}, error);
	assert_true(error == std::errc::invalid_argument);
	assert_int_equal(other.pool.stats().allocations_total, 1);
	assert_int_equal(other.pool.stats().active, 0);
}

static void count(void *ctx, std::uint64_t, void *, std::uint64_t, seg_cause)
{
	++*static_cast<int *>(ctx);
}

static void test_a_cache_of_values(void **)
{
	auto o = seg::sized<seg_cache_options>();
	int left = 0, value = 5;
	void *found = nullptr;

	o.max_weight = 10;
	o.listener = count;
	o.listener_ctx = &left;
	o.short_reads = 1;
	{
		seg::cache cache(o);
		seg::pin pin;
		std::error_code error;

		assert_false(cache.put(1, &value, 4, &pin));
		assert_int_equal(*pin.as<int>(), 5);
		pin = cache.find(1, error);	/* one pin, after this */
		assert_int_equal(cache.stats().pinned_weight, 4);
		pin = seg::pin();
		assert_int_equal(cache.stats().pinned_weight, 0);
		assert_false(cache.replace(1, &value, 3));
		{
			seg::read_section section;

			assert_int_equal(seg_cache_peek(cache.get(), 1, &found),
					 0);
		}
		assert_ptr_equal(cache.take(1, error), &value);
		assert_null(cache.take(1, error));
		assert_false(cache.put(2, &value, 1));
	}
	assert_int_equal(left, 2);
}

static int refuse(void *, std::uint64_t, const seg_page *, const seg_page *)
{
	return -EIO;
}

static void test_an_intent_log(void **)
{
	scene s;
	seg::txlog log(s.pool, 4);
	seg::page one(s.pool, {1}), two(s.pool, {1}), complete, modified;

	assert_false(log.put(1, std::move(one)));
	assert_false(log.put(2, std::move(two), seg::page(s.pool, {1})));
	assert_false(one || two);
	assert_int_equal(log.count(), 2);
	assert_true(log.put(3, seg::page()) == std::errc::invalid_argument);
	assert_false(log.take(2, complete, modified));
	assert_true(complete && modified);
	assert_false(log.take(1, complete, modified));
	assert_true(complete && !modified);
	assert_int_equal(s.pool.stats().active, 1);
	assert_int_equal(seg_txlog_put(log.get(), 5, complete.get(),
				       complete.get()), 0);
	(void)complete.release();
	assert_true(log.commit(refuse) == std::errc::io_error);
	assert_false(log.take(5, complete, modified));
	assert_true(complete && !modified);
	assert_false(log.put(6, std::move(complete)));
	assert_false(log.commit());
	assert_false(log.put(6, seg::page(s.pool, {1})));
	assert_false(log.abort());
	assert_int_equal(log.count(), 0);
	assert_false(log.put(7, seg::page(s.pool, {1})));
}

/* ---- the memory resource ---- */

struct upstream : std::pmr::memory_resource {
	std::size_t taken = 0, bytes = 0;

	void *do_allocate(std::size_t n, std::size_t align) override
	{
		taken++;
		bytes += n;
		return std::pmr::new_delete_resource()->allocate(n, align);
	}
	void do_deallocate(void *p, std::size_t n, std::size_t align) override
	{
		bytes -= n;
		std::pmr::new_delete_resource()->deallocate(p, n, align);
	}
	bool do_is_equal(const std::pmr::memory_resource &o)
		const noexcept override
	{
		return this == &o;
	}
};

static void test_containers_in_segments(void **)
{
	scene s;
	upstream up;
	seg::memory_resource resource(s.pool, &up);

	{
		std::pmr::vector<std::uint64_t> numbers(&resource);

		for (std::uint64_t i = 0; i < SEG_MAX_BYTES / 8; i++)
			numbers.push_back(i);
		assert_int_equal(up.taken, 0);
		assert_int_equal(s.pool.stats().active, 1);
		numbers.push_back(0);
		assert_int_equal(up.taken, 1);
		assert_int_equal(s.pool.stats().active, 0);
		assert_int_equal(numbers[12345], 12345);
	}
	{
		std::pmr::monotonic_buffer_resource small(&resource);
		std::pmr::vector<std::pmr::string> words(&small);

		for (int i = 0; i < 1000; i++)
			words.emplace_back(50, 'x');
		assert_true(s.pool.stats().active > 0);
	}
	assert_int_equal(up.bytes, 0);
}

static void test_strange_requests_go_upstream(void **)
{
	static const std::size_t requests[][3] = {
		{ 1, 1, 0 }, { SEG_MAX_BYTES, SEG_MIN_BYTES, 0 },
		{ SEG_MAX_BYTES + 1, 1, 1 }, { 1, 2 * SEG_MIN_BYTES, 1 },
		{ 0, 1, 1 },
	};
	scene s;
	upstream up;
	seg::memory_resource resource(s.pool, &up);

	for (const auto &r : requests) {
		std::size_t before = up.taken;
		void *p = resource.allocate(r[0], r[1]);

		assert_int_equal(reinterpret_cast<std::uintptr_t>(p) % r[1], 0);
		assert_int_equal(up.taken - before, r[2]);
		assert_int_equal(s.pool.stats().active, !r[2]);
		resource.deallocate(p, r[0], r[1]);
		assert_int_equal(s.pool.stats().active, 0);
	}
	assert_ptr_equal(resource.upstream_resource(), &up);
}

static void test_equal_resources(void **)
{
	scene s;
	upstream one, two;
	seg::pool other(s.budget);
	seg::memory_resource a(s.pool, &one), b(s.pool, &one), c(s.pool, &two),
		d(other, &one);

	assert_true(a == b);
	assert_false(a == c);
	assert_false(a == d);
	assert_false(a == *std::pmr::new_delete_resource());
}

static void test_a_container_at_the_limit(void **)
{
	seg::budget budget(SEG_MAX_BYTES);
	seg::pool pool = pool_without_wait(budget);
	seg::memory_resource resource(pool);
	std::pmr::vector<char> first(SEG_MAX_BYTES, 'x', &resource);
	std::pmr::vector<char> second(&resource);

	assert_int_equal(code_thrown_by([&] { second.resize(1); }), ENOMEM);
	assert_true(second.empty());
	first = std::pmr::vector<char>(&resource);
	second.resize(1);
	assert_int_equal(second.size(), 1);
}

int main()
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constructors_throw),
		cmocka_unit_test(test_what_is_moved_is_released_once),
		cmocka_unit_test(test_assigned_over),
		cmocka_unit_test(test_what_is_used_is_not_destroyed),
		cmocka_unit_test(test_at_the_limit),
		cmocka_unit_test(test_options_of_one_allocation),
		cmocka_unit_test(test_a_cache_of_pages),
		cmocka_unit_test(test_loaders),
		cmocka_unit_test(test_a_loader_with_a_foreign_page),
		cmocka_unit_test(test_a_cache_of_values),
		cmocka_unit_test(test_an_intent_log),
		cmocka_unit_test(test_containers_in_segments),
		cmocka_unit_test(test_strange_requests_go_upstream),
		cmocka_unit_test(test_equal_resources),
		cmocka_unit_test(test_a_container_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
