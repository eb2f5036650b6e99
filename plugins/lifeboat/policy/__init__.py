"""What a system's owners want: the policy model, its loading, its schedules."""
