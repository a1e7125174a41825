curl -X POST https://compute.example.com/api/v1/tasks/generation \
  -H "Authorization: Bearer $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "input_image_url": "https://storage.example.com/products/dress-001.jpg",
    "prompt": "fashion model wearing the dress, studio lighting, white background",
    "negative_prompt": "blurry, distorted, low quality",
    "num_outputs": 4,
    "steps": 30,
    "guidance_scale": 7.5
  }'

curl -X POST https://compute.example.com/api/v1/training/ \
  -H "Authorization: Bearer $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "dataset_url": "https://storage.example.com/datasets/model-ref.zip",
    "base_model": "sd-xl-base",
    "output_name": "custom-model-v1",
    "config": {
      "epochs": 100,
      "learning_rate": 1e-4,
      "batch_size": 1
    }
  }'

# Create workflow
curl -X POST https://compute.example.com/api/v1/workflows/ \
  -H "Authorization: Bearer $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "product-to-model",
    "steps": [
      {
        "name": "generate-base",
        "type": "generation",
        "config": {
          "prompt": "model wearing product",
          "num_outputs": 4
        }
      },
      {
        "name": "upscale",
        "type": "processing",
        "config": {
          "operation": "upscale",
          "scale": 2
        },
        "depends_on": ["generate-base"]
      },
      {
        "name": "background-removal",
        "type": "processing",
        "config": {
          "operation": "remove-background"
        },
        "depends_on": ["upscale"]
      }
    ]
  }'

# Start workflow
curl -X POST https://compute.example.com/api/v1/workflows/{workflow_id}/start \
  -H "Authorization: Bearer $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "input": {
      "image_url": "https://storage.example.com/products/dress.jpg"
    }
  }'

curl https://compute.example.com/api/v1/workflows/{workflow_id} \
  -H "Authorization: Bearer $API_KEY"

curl https://compute.example.com/api/v1/training/train_xyz789 \
  -H "Authorization: Bearer $API_KEY"

curl -X POST https://compute.example.com/api/v1/tasks/task_abc123/cancel \
  -H "Authorization: Bearer $API_KEY"
